# PoseCons (arXiv:2011.12498): one network, its own easy view teaches its hard view.
_base_ = ['./trs_hrnet-tiny_people.py']
model = dict(
    aux=[],
    mix=dict(
        _delete_=True,
        type='mmdistill.KeypointMix',
        scope='cutout',
        patches=5,
        mix_weight=(1, 1),
        fill=0,
    ),
    teacher=dict(mode='self'),
    reviewer=None,
)
custom_hooks = [
    dict(type='mmdistill.PreemptHook'),
    dict(type='mmdistill.LabeledInstancesHook'),
    dict(
        type='mmdistill.TeacherUpdateHook',
        momentum=dict(
            type='mmdistill.LinearRampMomentum', keep_init=0.9, keep_final=0.99, ramp_iters=200
        ),
        buffers='ema',
    ),
    dict(
        type='mmdistill.UnsupWeightRampHook', begin=250, ramp_iters=100, weight=2.0, shape='linear'
    ),
    dict(type='mmdistill.PseudoQualityHook', interval=50),
    dict(type='mmdistill.CollapseAlarmHook', interval=50, begin=300),
]
val_cfg = dict(branches=('student', 'teacher'))
