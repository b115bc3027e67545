# Two hidden layers learn events of a power system from five. First: teacher_mlp_hil.py.
_base_ = ['../_base_/runtime.py', '../_base_/hil.py']
model = dict(
    type='mmkd.Distiller',
    student=dict(type='mmkd.TabularMLP', in_features=128, hidden=(64, 32), num_classes=3),
    teacher=dict(
        type='mmkd.TabularMLP',
        in_features=128,
        num_classes=3,
        hidden=(512, 256, 128, 64, 32),
        checkpoint='work_dirs/teacher_mlp_hil/iter_4000.pth',
    ),
    weighter=dict(type='mmkd.TGeoKD', num_classes=3),
    temperature=1.5,
)
optim_wrapper = dict(
    constructor='mmkd.StudentFusionConstructor',
    student=dict(optimizer=dict(type='Adam', lr=1e-3)),
    fusion=dict(optimizer=dict(type='Adam', lr=1e-3, weight_decay=1e-2)),
)
param_scheduler = dict(student=[], fusion=[])
train_cfg = dict(
    type='mmkd.MetaTrainLoop',
    max_iters=4000,
    val_interval=500,
    meta_dataloader=_base_.meta_dataloader,
    meta_interval=5,
    meta_begin=200,
)
custom_hooks = [
    dict(type='mmdistill.PreemptHook'),
    dict(type='mmkd.DistillationHook'),
    dict(type='mmkd.ClassMeanHook', batch_size=1024),
    dict(type='mmkd.RatioRecordHook', interval=500),
    dict(
        type='mmkd.HeldOutValHook',
        dataloader=_base_.held_out_dataloader,
        evaluator=_base_.val_evaluator,
    ),
]
