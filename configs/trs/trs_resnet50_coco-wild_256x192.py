# TRS on ResNet-50 with all labels of COCO and the people of unlabeled2017. The peers train 400
# passes on 4 GPUs; 468000 iterations of 4 x (32 + 32) are as many passes over the labelled people.
_base_ = [
    '../_base_/models/pose_resnet18.py',
    '../_base_/datasets/coco-wild-semi.py',
    '../_base_/schedules/adam_35000it.py',
    '../_base_/pose_runtime.py',
]
estimator = _base_.model
estimator.backbone.depth = 50
estimator.backbone.init_cfg.checkpoint = 'torchvision://resnet50'
estimator.head.in_channels = 2048
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
train_cfg = dict(max_iters=468000, val_interval=18000)
param_scheduler = [
    dict(type='MultiStepLR', milestones=[351000, 410000], gamma=0.1, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=6000))
custom_hooks = [
    dict(type='mmdistill.PreemptHook'),
    dict(type='mmdistill.LabeledInstancesHook'),
    dict(
        type='mmdistill.TeacherUpdateHook',
        momentum=dict(type='mmdistill.InverseMomentum', keep_final=0.999),
        buffers='ema',
    ),
    dict(type='mmdistill.ReviewerUpdateHook', source='student', interval='epoch_equivalent'),
    dict(type='mmdistill.UnsupWeightRampHook', begin=10000, ramp_iters=10000, shape='linear'),
    dict(type='mmdistill.PseudoQualityHook', interval=50),
    dict(type='mmdistill.CollapseAlarmHook', interval=50, begin=10000),
]
val_cfg = dict(branches=('student', 'teacher', 'reviewer'))
