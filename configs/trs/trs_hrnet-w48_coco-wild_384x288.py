# TRS on HRNet-W48 with all labels of COCO and the people of unlabeled2017. The peers train 300
# passes with 8 + 8 people per GPU; 1400000 iterations on 4 GPUs are as many over the labelled
# people, and milestones lie where theirs do.
_base_ = [
    '../_base_/models/pose_hrnet.py',
    '../_base_/datasets/coco-wild-384x288-semi.py',
    '../_base_/schedules/adam_35000it.py',
    '../_base_/pose_runtime.py',
]
estimator = _base_.model
estimator.head.decoder = _base_.codec
model = dict(
    _delete_=True,
    type='mmdistill.TRS',
    estimator=estimator,
    aux=[dict(stage='stage3'), dict(stage='stage2')],
    hard_view=dict(rotation_std=30, rotation_max=60, rotation_prob=0.8),
    mix=dict(type='mmdistill.KeypointMix', scope='intra', patches=2),
    teacher=dict(mode='ema', weight=1.0),
    reviewer=dict(weight=0.5),
)
train_cfg = dict(max_iters=1400000, val_interval=50000)
param_scheduler = [
    dict(type='MultiStepLR', milestones=[1030000, 1217000], gamma=0.1, by_epoch=False),
]
auto_scale_lr = dict(base_batch_size=64)
default_hooks = dict(checkpoint=dict(interval=10000))
custom_hooks = [
    dict(type='mmdistill.PreemptHook'),
    dict(type='mmdistill.LabeledInstancesHook'),
    dict(
        type='mmdistill.TeacherUpdateHook',
        momentum=dict(type='mmdistill.InverseMomentum', keep_final=0.999),
        buffers='ema',
    ),
    dict(type='mmdistill.ReviewerUpdateHook', source='student', interval='epoch_equivalent'),
    dict(type='mmdistill.UnsupWeightRampHook', begin=30000, ramp_iters=30000, shape='linear'),
    dict(type='mmdistill.PseudoQualityHook', interval=50),
    dict(type='mmdistill.CollapseAlarmHook', interval=50, begin=30000),
]
val_cfg = dict(branches=('student', 'teacher', 'reviewer'))
