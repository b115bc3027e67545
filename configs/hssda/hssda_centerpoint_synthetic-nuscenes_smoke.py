# Twelve iterations of HSSDA on sequences like nuScenes, two mining rounds: does everything run?
# Mined boxes and checkpoints count, numbers do not; there is no validation.
_base_ = [
    '../_base_/models/centerpoint_tiny_nuscenes.py',
    '../_base_/datasets/synthetic-nuscenes-semi.py',
    '../_base_/schedules/one-cycle_450it.py',
    '../_base_/det3d_runtime.py',
]
train_dataloader = dict(
    sampler=dict(_delete_=True, type='mmdistill.RatioSampler', batch_size=2, ratios=(1, 1), seed=0)
)

detector = _base_.model
model = dict(
    _delete_=True,
    type='mmdistill.HSSDA',
    detector=detector,
    class_names=_base_.class_names,
    student_view=dict(
        flip_prob=0.5, vertical_flip_prob=0.5, rotation=(-0.785, 0.785), scale=(0.95, 1.05)
    ),
    teacher_view=dict(flip_prob=1.0, rotation=(-0.785, 0.785), scale=(0.91, 1.12)),
    object_bank=dict(sample_groups=dict(car=3, truck=2, bicycle=3, pedestrian=3), min_points=5),
    scores=('heatmap_peak', 'view_iou'),
    # An untrained teacher knows nothing: thresholds and removal start where its scores are.
    thresholds=dict(init=dict(heatmap_peak=0.05, view_iou=0.05)),
    low=dict(score_thr=0.04),
    shuffle=dict(grid=(2, 2), unshuffle_at='neck'),
    teacher_test_cfg=dict(score_threshold=0.02, nms_thr=0.1, post_max_size=60),
    head_cfg=dict(normalizer='count'),
)
custom_hooks = [
    dict(type='mmdistill.PreemptHook'),
    dict(
        type='mmdistill.TeacherUpdateHook',
        momentum=dict(type='mmdistill.LinearRampMomentum', keep_final=0.99, ramp_iters=10),
        buffers='ema',
    ),
    dict(type='mmdistill.ObjectBankHook'),
    dict(type='mmdistill.PseudoMiningHook', interval=6),
    dict(type='mmdistill.PseudoQualityHook', interval=3),
]
param_scheduler = [
    dict(type='OneCycleLR', eta_max=0.004, total_steps=12, pct_start=0.3, by_epoch=False)
]
train_cfg = dict(max_iters=12)
val_cfg = None
test_cfg = None
default_hooks = dict(checkpoint=dict(interval=6), logger=dict(interval=1))
