# A ratio per sample, learned by a tenth of the training digits. First: teacher_mlp_digits.py.
_base_ = ['./kd_mlp_digits.py']
held_out = dict(type='mmkd.SplitDataset', dataset=dict(_base_.digits, split='train'), share=0.1)
train_dataloader = dict(dataset=dict(_delete_=True, **held_out, part='train'))
model = dict(weighter=dict(_delete_=True, type='mmkd.TGeoKD', num_classes=10))
optim_wrapper = dict(
    _delete_=True,
    constructor='mmkd.StudentFusionConstructor',
    student=dict(optimizer=dict(type='AdamW', lr=5e-3, weight_decay=0.01)),
    fusion=dict(optimizer=dict(type='Adam', lr=1e-3, weight_decay=1e-4)),
)
param_scheduler = dict(
    _delete_=True,
    student=[dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, end=600, by_epoch=False)],
    fusion=[],
)
train_cfg = dict(
    _delete_=True,
    type='mmkd.MetaTrainLoop',
    max_iters=600,
    val_interval=100,
    meta_dataloader=dict(
        batch_size=64,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=True),
        collate_fn=dict(type='default_collate'),
        dataset=dict(**held_out, part='meta'),
    ),
    meta_interval=5,
    meta_begin=50,
)
custom_hooks = [
    dict(type='mmdistill.PreemptHook'),
    dict(type='mmkd.DistillationHook'),
    dict(type='mmkd.ClassMeanHook'),
    dict(type='mmkd.RatioRecordHook', interval=100),
]
