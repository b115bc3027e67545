# A ratio per sample, learned by the held-out rows. First: teacher_mlp_table.py.
_base_ = ['./kd_mlp_table.py']
model = dict(weighter=dict(_delete_=True, type='mmkd.TGeoKD', num_classes=4))
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
    meta_interval=1,
    meta_begin=0,
)
custom_hooks = [
    dict(type='mmdistill.PreemptHook'),
    dict(type='mmkd.DistillationHook'),
    dict(type='mmkd.ClassMeanHook'),
    dict(type='mmkd.RatioRecordHook', interval=250),
    _base_.held_out,
]
