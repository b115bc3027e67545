# A smaller Wide & Deep learns clicks from a larger one. First: teacher_wide-deep_criteo.py.
_base_ = ['../_base_/runtime.py', '../_base_/criteo.py']
model = dict(
    type='mmkd.Distiller',
    student=dict(type='mmkd.WideAndDeep', **_base_.columns, embedding=16, hidden=(64, 32)),
    teacher=dict(
        type='mmkd.WideAndDeep',
        **_base_.columns,
        embedding=16,
        hidden=(64, 64),
        checkpoint='work_dirs/teacher_wide-deep_criteo/iter_1000.pth',
    ),
    weighter=dict(type='mmkd.TGeoKD', num_classes=2),
    temperature=2.0,
)
optim_wrapper = dict(
    constructor='mmkd.StudentFusionConstructor',
    student=dict(optimizer=dict(type='Adam', lr=1e-3, weight_decay=1e-2)),
    fusion=dict(optimizer=dict(type='Adam', lr=1e-3, weight_decay=1e-2)),
)
param_scheduler = dict(student=[], fusion=[])
train_cfg = dict(
    type='mmkd.MetaTrainLoop',
    max_iters=1000,
    val_interval=100,
    meta_dataloader=_base_.meta_dataloader,
    meta_interval=5,
    meta_begin=50,
)
custom_hooks = [
    dict(type='mmdistill.PreemptHook'),
    dict(type='mmkd.DistillationHook'),
    dict(type='mmkd.ClassMeanHook', batch_size=1024),
    dict(type='mmkd.RatioRecordHook', interval=250),
    dict(
        type='mmkd.HeldOutValHook',
        dataloader=_base_.held_out_dataloader,
        evaluator=_base_.val_evaluator,
    ),
]
