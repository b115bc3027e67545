# TRS and its training on a laptop; a config adds network and data and takes ``_base_.trs``.
_base_ = ['./schedules/one-cycle_1300it_pose.py', './pose_runtime.py']
trs = dict(
    type='mmdistill.TRS',
    aux=[dict(stage='stage3', weight=0.2)],
    hard_view=dict(rotation_std=30, rotation_max=60, rotation_prob=0.8),
    mix=[
        dict(type='mmdistill.KeypointMix', scope='intra', patches=2),
        dict(type='mmdistill.KeypointMix', scope='cutout', patches=5, mix_weight=(1, 1), fill=0),
    ],
    # together 1, the weight of the one teacher of the peers
    teacher=dict(mode='ema', weight=2 / 3),
    reviewer=dict(weight=1 / 3),
    confidence=0.1,
    pseudo_bn='batch',
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
    dict(type='mmdistill.ReviewerUpdateHook', source='student', interval=50),
    dict(
        type='mmdistill.UnsupWeightRampHook', begin=250, ramp_iters=100, weight=2.0, shape='linear'
    ),
    dict(type='mmdistill.PseudoQualityHook', interval=50),
    dict(type='mmdistill.CollapseAlarmHook', interval=50, begin=300),
]
val_cfg = dict(type='mmdistill.TeacherStudentValLoop', branches=('student', 'teacher', 'reviewer'))
