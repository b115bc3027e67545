# TRS on HRNet-W32 with all labels of MPII and the people of AI Challenger. Batches of 16 + 16 as
# MultiAugs has them; the budget is ours, milestones lie where theirs do (220 and 260 of 300).
_base_ = [
    '../_base_/models/pose_hrnet.py',
    '../_base_/datasets/mpii-aic-semi.py',
    '../_base_/schedules/adam_35000it.py',
    '../_base_/pose_runtime.py',
]
estimator = _base_.model
parts = estimator.backbone.extra
parts.stage2.num_channels, parts.stage3.num_channels = (32, 64), (32, 64, 128)
parts.stage4.num_channels = (32, 64, 128, 256)
weights = 'https://download.openmmlab.com/mmpose/pretrain_models/hrnet_w32-36af842e.pth'
estimator.backbone.init_cfg.checkpoint = weights
estimator.head.in_channels, estimator.head.out_channels = 32, 16
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
train_dataloader = dict(batch_size=32, sampler=dict(batch_size=32))
train_cfg = dict(max_iters=300000, val_interval=10000)
param_scheduler = [
    dict(type='MultiStepLR', milestones=[220000, 260000], gamma=0.1, by_epoch=False),
]
auto_scale_lr = dict(base_batch_size=128)
default_hooks = dict(checkpoint=dict(interval=5000))
custom_hooks = [
    dict(type='mmdistill.PreemptHook'),
    dict(type='mmdistill.LabeledInstancesHook'),
    dict(
        type='mmdistill.TeacherUpdateHook',
        momentum=dict(type='mmdistill.InverseMomentum', keep_final=0.999),
        buffers='ema',
    ),
    dict(type='mmdistill.ReviewerUpdateHook', source='student', interval='epoch_equivalent'),
    dict(type='mmdistill.UnsupWeightRampHook', begin=5000, ramp_iters=5000, shape='linear'),
    dict(type='mmdistill.PseudoQualityHook', interval=50),
    dict(type='mmdistill.CollapseAlarmHook', interval=50, begin=5000),
]
val_cfg = dict(branches=('student', 'teacher', 'reviewer'))
