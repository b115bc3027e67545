# TGeo-KD on CIFAR-100: a step of the ratio network every 5 iterations, after 10 epochs with 0.5.
_base_ = ['./cifar100.py', './crd_240e.py']
model = dict(
    type='mmkd.Distiller',
    student=dict(type='mmkd.CifarNet', num_classes=100),
    teacher=dict(type='mmkd.CifarNet', num_classes=100),
    weighter=dict(type='mmkd.TGeoKD', num_classes=100),
    temperature=4.0,
)
optim_wrapper = dict(
    _delete_=True,
    constructor='mmkd.StudentFusionConstructor',
    student=_base_.optim_wrapper,
    fusion=dict(optimizer=dict(type='Adam', lr=1e-3, weight_decay=1e-4)),
)
param_scheduler = dict(_delete_=True, student=_base_.param_scheduler, fusion=_base_.param_scheduler)
train_cfg = dict(
    type='mmkd.MetaTrainLoop',
    meta_dataloader=_base_.meta_dataloader,
    meta_interval=5,
    meta_begin=10 * 704,
)
custom_hooks = [
    dict(type='mmdistill.PreemptHook'),
    dict(type='mmkd.DistillationHook'),
    dict(type='mmkd.ClassMeanHook'),
    dict(type='mmkd.RatioRecordHook', interval=20 * 704),
    dict(
        type='mmkd.HeldOutValHook',
        dataloader=_base_.held_out_dataloader,
        evaluator=_base_.val_evaluator,
    ),
]
