# Eight iterations of TRS with four reviewer updates and four checkpoints: does everything run?
_base_ = ['./trs_hrnet-tiny_people.py']
model = dict(confidence=0.0)  # nobody is confident after eight iterations
train_dataloader = dict(
    batch_size=4,
    sampler=dict(batch_size=4, ratios=(1, 1)),
    dataset=dict(labeled=dict(indices=6)),
)
param_scheduler = [dict(type='LinearLR', start_factor=0.1, begin=0, end=4, by_epoch=False)]
train_cfg = dict(max_iters=8, val_interval=4)
default_hooks = dict(checkpoint=dict(interval=2, max_keep_ckpts=3), logger=dict(interval=1))
custom_hooks = [
    dict(type='mmdistill.PreemptHook'),
    dict(type='mmdistill.LabeledInstancesHook'),
    dict(
        type='mmdistill.TeacherUpdateHook',
        momentum=dict(type='mmdistill.InverseMomentum', keep_final=0.99),
        buffers='ema',
    ),
    # the memory of a ring has to survive a restart too
    dict(
        type='mmdistill.ReviewerUpdateHook',
        policy=dict(type='mmdistill.RingReviewer', size=2),
        interval=2,
    ),
    dict(type='mmdistill.UnsupWeightRampHook', begin=2, ramp_iters=3, shape='linear'),
    dict(type='mmdistill.PseudoQualityHook', interval=2),
    dict(type='mmdistill.CollapseAlarmHook', interval=2, patience=1, begin=2),
]
