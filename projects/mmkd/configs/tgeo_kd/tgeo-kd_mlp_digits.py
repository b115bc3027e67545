# A ratio per sample, learned by the held-out digits. First: teacher_mlp_digits.py.
_base_ = ['./kd_mlp_digits.py']
model = dict(weighter=dict(_delete_=True, type='mmkd.TGeoKD', num_classes=10))
optim_wrapper = dict(
    _delete_=True,
    constructor='mmkd.StudentFusionConstructor',
    student=_base_.optim_wrapper,
    fusion=dict(optimizer=dict(type='Adam', lr=1e-2, weight_decay=1e-4)),
)
param_scheduler = dict(_delete_=True, student=_base_.param_scheduler, fusion=_base_.param_scheduler)
train_cfg = dict(
    type='mmkd.MetaTrainLoop',
    meta_dataloader=_base_.meta_dataloader,
    meta_interval=2,
    meta_begin=50,
)
custom_hooks = [
    dict(type='mmdistill.PreemptHook'),
    dict(type='mmkd.DistillationHook'),
    dict(type='mmkd.ClassMeanHook'),
    dict(type='mmkd.RatioRecordHook', interval=250),
    _base_.held_out,
]
