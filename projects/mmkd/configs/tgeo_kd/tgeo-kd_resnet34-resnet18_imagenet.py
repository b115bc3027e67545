# ResNet-34 teaches ResNet-18 on ImageNet, 100 epochs. The teacher is a file with timm's keys.
_base_ = ['../_base_/runtime.py', '../_base_/imagenet.py']
epoch = 4905
model = dict(
    type='mmkd.Distiller',
    student=dict(type='mmkd.TimmClassifier', name='resnet18', num_classes=1000),
    teacher=dict(
        type='mmkd.TimmClassifier',
        name='resnet34',
        num_classes=1000,
        options=dict(checkpoint_path='{{$MMDISTILL_CKPT:checkpoints}}/resnet34.pth'),
    ),
    weighter=dict(type='mmkd.TGeoKD', num_classes=1000),
    temperature=1.0,
)
optim_wrapper = dict(
    constructor='mmkd.StudentFusionConstructor',
    student=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4)),
    fusion=dict(optimizer=dict(type='Adam', lr=1e-3, weight_decay=1e-4)),
)
steps = [dict(type='MultiStepLR', milestones=[n * epoch for n in (30, 60, 90)], by_epoch=False)]
param_scheduler = dict(student=steps, fusion=steps)
train_cfg = dict(
    type='mmkd.MetaTrainLoop',
    max_iters=100 * epoch,
    val_interval=epoch,
    meta_dataloader=_base_.meta_dataloader,
    meta_interval=5,
    meta_begin=4 * epoch,
)
default_hooks = dict(checkpoint=dict(interval=epoch), logger=dict(interval=100))
custom_hooks = [
    dict(type='mmdistill.PreemptHook'),
    dict(type='mmkd.DistillationHook'),
    dict(type='mmkd.ClassMeanHook'),
    dict(type='mmkd.RatioRecordHook', interval=5 * epoch),
]
