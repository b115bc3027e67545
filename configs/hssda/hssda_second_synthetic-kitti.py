# HSSDA from the burn-in; of three scenes one is labelled (the paper: natural frequency, 200
# times this training).
_base_ = [
    '../_base_/models/second_tiny.py',
    '../_base_/datasets/synthetic-kitti-semi.py',
    '../_base_/schedules/one-cycle_450it.py',
    '../_base_/det3d_runtime.py',
]
load_from = 'work_dirs/burn-in_second_synthetic-kitti/iter_900.pth'

train_dataloader = dict(
    sampler=dict(_delete_=True, type='mmdistill.RatioSampler', batch_size=3, ratios=(1, 2), seed=0)
)

detector = _base_.model
ema = dict(type='mmdistill.LinearRampMomentum', keep_init=0.5, keep_final=0.99, ramp_iters=100)
model = dict(
    _delete_=True,
    type='mmdistill.HSSDA',
    detector=detector,
    class_names=_base_.class_names,
    student_view=dict(flip_prob=0.5, rotation=(-0.785, 0.785), scale=(0.95, 1.05)),
    teacher_view=dict(flip_prob=1.0, rotation=(-0.785, 0.785), scale=(0.91, 1.12)),
    object_bank=dict(sample_groups=dict(Car=8, Pedestrian=8, Cyclist=8), min_points=5),
    scores=('cls', 'view_iou'),
    # As for the PointPillars: an overlap of a quarter is a find (the paper: a half).
    match_iou=0.25,
    # One round instead of the paper's many, and pools of a dozen objects per class.
    thresholds=dict(init=dict(cls=0.99, view_iou=0.93), high_at='boundary'),
    pool_views=8,
    low=dict(score_thr=0.05),
    # 450 steps are too few to learn every patch at every place: shuffle one scene in four.
    shuffle=dict(grid=(2, 2), unshuffle_at='middle_encoder', prob=0.25),
    teacher_test_cfg=dict(score_thr=0.05, nms_thr=0.1, max_num=60),
    head_cfg=dict(loss_norm='batch'),
)
custom_hooks = [
    dict(type='mmdistill.PreemptHook'),
    dict(type='mmdistill.TeacherUpdateHook', momentum=ema, buffers='ema'),
    dict(type='mmdistill.ObjectBankHook'),
    # Six passes over the unlabelled scenes (the paper: five): the first round is the only one.
    dict(type='mmdistill.PseudoMiningHook', interval=450),
    dict(type='mmdistill.PseudoQualityHook', interval=20),
]
val_cfg = dict(type='mmdistill.TeacherStudentValLoop')
