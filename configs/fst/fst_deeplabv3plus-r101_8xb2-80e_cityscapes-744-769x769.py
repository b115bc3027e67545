# FST, DeepLabV3+ with ResNet-101, 744 labelled images of Cityscapes: hard pixels and an auxiliary
# head; all pseudo labels but the least certain one count.
_base_ = [
    '../_base_/models/deeplabv3plus_r101_multigrid.py',
    '../_base_/datasets/cityscapes-744-semi.py',
    '../_base_/schedules/sgd_80e_cityscapes.py',
    '../_base_/fst_semi.py',
]
segmentor = _base_.model
segmentor.data_preprocessor.size = _base_.crop_size
segmentor.decode_head.num_classes = 19
segmentor.decode_head.sampler = dict(type='OHEMPixelSampler', thresh=0.7, min_kept=100000)
segmentor.auxiliary_head = dict(
    type='FCNHead',
    in_channels=1024,
    in_index=2,
    channels=256,
    num_convs=1,
    concat_input=False,
    dropout_ratio=0.1,
    num_classes=19,
    norm_cfg=_base_.norm_cfg,
    align_corners=True,
    loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True, loss_weight=0.4),
    sampler=dict(type='OHEMPixelSampler', thresh=0.7, min_kept=100000),
)
segmentor.test_cfg = dict(mode='slide', crop_size=_base_.crop_size, stride=(513, 513))
model = dict(_delete_=True, segmentor=segmentor, **_base_.fst)
model['pseudo'] = dict(rule='entropy', drop_percent=100.0)
default_hooks = dict(checkpoint=dict(interval=139))
