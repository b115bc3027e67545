# Twenty iterations of HSSDA on a PV-RCNN of few channels, two mining rounds: does everything run?
_base_ = [
    '../_base_/models/pv_rcnn_tiny.py',
    '../_base_/datasets/synthetic-kitti-semi.py',
    '../_base_/schedules/one-cycle_450it.py',
    '../_base_/det3d_runtime.py',
]
train_dataloader = dict(
    batch_size=2,
    sampler=dict(_delete_=True, type='mmdistill.RatioSampler', batch_size=2, ratios=(1, 1), seed=0),
)

detector = _base_.model
model = dict(
    _delete_=True,
    type='mmdistill.HSSDA',
    detector=detector,
    class_names=_base_.class_names,
    student_view=dict(flip_prob=0.5, rotation=(-0.785, 0.785), scale=(0.95, 1.05)),
    teacher_view=dict(flip_prob=1.0, rotation=(-0.785, 0.785), scale=(0.91, 1.12)),
    object_bank=dict(sample_groups=dict(Car=5, Pedestrian=5, Cyclist=5), min_points=5),
    scores=('cls', 'objectness', 'view_iou'),
    # An untrained teacher is sure of nothing: thresholds and removal start where its scores are.
    thresholds=dict(init=dict(cls=0.3, objectness=0.005, view_iou=0.05)),
    ambiguous=dict(weight=('cls', 'objectness')),
    low=dict(score_thr=0.3),
    shuffle=dict(grid=(2, 2), unshuffle_at='middle_encoder'),
    teacher_test_cfg=dict(score_thr=0.1, nms_thr=0.1),
    head_cfg=dict(loss_norm='sample'),
)
custom_hooks = [
    dict(type='mmdistill.PreemptHook'),
    dict(
        type='mmdistill.TeacherUpdateHook',
        momentum=dict(type='mmdistill.LinearRampMomentum', keep_final=0.99, ramp_iters=10),
        buffers='ema',
    ),
    dict(type='mmdistill.ObjectBankHook'),
    dict(type='mmdistill.PseudoMiningHook', interval=10),
    dict(type='mmdistill.PseudoQualityHook', interval=5),
]
param_scheduler = [
    dict(type='OneCycleLR', eta_max=0.01, total_steps=20, pct_start=0.3, by_epoch=False)
]
train_cfg = dict(max_iters=20, val_interval=20)
val_cfg = dict(type='mmdistill.TeacherStudentValLoop')
default_hooks = dict(checkpoint=dict(interval=10), logger=dict(interval=1))
