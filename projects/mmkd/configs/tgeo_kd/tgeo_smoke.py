# Eight iterations with a step of the ratio network after every second: does everything run?
_base_ = ['./tgeo-kd_mlp_digits.py']
model = dict(teacher=dict(hidden=(16,), checkpoint=None))
train_dataloader = dict(batch_size=16)
param_scheduler = dict(
    student=[dict(type='PolyLR', power=1.0, begin=0, end=8, by_epoch=False)], fusion=[]
)
train_cfg = dict(
    max_iters=8, val_interval=4, meta_interval=2, meta_begin=2, meta_dataloader=dict(batch_size=16)
)
default_hooks = dict(checkpoint=dict(interval=2, max_keep_ckpts=3), logger=dict(interval=1))
custom_hooks = [
    dict(type='mmdistill.PreemptHook'),
    dict(type='mmkd.DistillationHook'),
    dict(type='mmkd.ClassMeanHook'),
    dict(type='mmkd.RatioRecordHook', interval=4, num_samples=100),
]
