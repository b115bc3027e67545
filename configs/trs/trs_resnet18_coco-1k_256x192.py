# TRS with 1000 labelled people of COCO. The paper's settings are not known: budget and crops are
# PoseDual's and MultiAugs', the rest is ours. Meant for 4 GPUs with 32 + 32 people each.
_base_ = [
    '../_base_/models/pose_resnet18.py',
    '../_base_/datasets/coco-1k-semi.py',
    '../_base_/schedules/adam_35000it.py',
    '../_base_/pose_runtime.py',
]
estimator = _base_.model
estimator.head.decoder = _base_.codec
model = dict(
    _delete_=True,
    type='mmdistill.TRS',
    estimator=estimator,
    aux=[dict(stage='layer3', channels=128), dict(stage='layer2', channels=128)],
    hard_view=dict(rotation_std=30, rotation_max=60, rotation_prob=0.8),
    mix=dict(type='mmdistill.KeypointMix', scope='intra', patches=2),
    teacher=dict(mode='ema', weight=1.0),
    reviewer=dict(weight=0.5),
)
default_hooks = dict(checkpoint=dict(interval=1000))
custom_hooks = [
    dict(type='mmdistill.PreemptHook'),
    dict(type='mmdistill.LabeledInstancesHook'),
    dict(
        type='mmdistill.TeacherUpdateHook',
        momentum=dict(type='mmdistill.InverseMomentum', keep_final=0.999),
        buffers='ema',
    ),
    dict(type='mmdistill.ReviewerUpdateHook', source='student', interval='epoch_equivalent'),
    dict(type='mmdistill.UnsupWeightRampHook', begin=2000, ramp_iters=3000, shape='linear'),
    dict(type='mmdistill.PseudoQualityHook', interval=50),
    dict(type='mmdistill.CollapseAlarmHook', interval=50, begin=3000),
]
val_cfg = dict(branches=('student', 'teacher', 'reviewer'))
