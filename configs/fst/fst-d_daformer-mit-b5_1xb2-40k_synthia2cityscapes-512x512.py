# FST-D, DAFormer's network, SYNTHIA to Cityscapes; selected by the 16 classes of SYNTHIA.
_base_ = [
    '../_base_/models/daformer_mit-b5.py',
    '../_base_/datasets/synthia2cityscapes-512x512.py',
    '../_base_/fst_uda.py',
]
segmentor = _base_.model
model = dict(_delete_=True, segmentor=segmentor, **_base_.fst)
default_hooks = dict(checkpoint=dict(save_best='student/mIoU16'))
