# FST, DeepLabV3+ with ResNet-101, 662 labelled images of VOC.
_base_ = [
    '../_base_/models/deeplabv3plus_r101_multigrid.py',
    '../_base_/datasets/voc-662-semi.py',
    '../_base_/schedules/sgd_40e_voc.py',
    '../_base_/fst_semi.py',
]
segmentor = _base_.model
model = dict(_delete_=True, segmentor=segmentor, **_base_.fst)
default_hooks = dict(checkpoint=dict(interval=620))
