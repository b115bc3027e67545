# HSSDA on synthetic KITTI, from a burn-in; a config adds the detector, its scores and its place of
# unshuffling to ``_base_.hssda``. Of three scenes one is labelled (the paper: natural frequency,
# 200 times this training).
_base_ = [
    './datasets/synthetic-kitti-semi.py',
    './schedules/one-cycle_450it.py',
    './det3d_runtime.py',
]
train_dataloader = dict(
    sampler=dict(_delete_=True, type='mmdistill.RatioSampler', batch_size=3, ratios=(1, 2), seed=0)
)
hssda = dict(
    type='mmdistill.HSSDA',
    class_names=_base_.class_names,
    student_view=dict(flip_prob=0.5, rotation=(-0.785, 0.785), scale=(0.95, 1.05)),
    teacher_view=dict(flip_prob=1.0, rotation=(-0.785, 0.785), scale=(0.91, 1.12)),
    object_bank=dict(sample_groups=dict(Car=8, Pedestrian=8, Cyclist=8), min_points=5),
    # A pedestrian is two pillars wide: an overlap of a quarter is a find (the paper: a half).
    match_iou=0.25,
    pool_views=8,
    low=dict(score_thr=0.05),
)
ema = dict(type='mmdistill.LinearRampMomentum', keep_init=0.5, keep_final=0.99, ramp_iters=100)
custom_hooks = [
    dict(type='mmdistill.PreemptHook'),
    dict(type='mmdistill.TeacherUpdateHook', momentum=ema, buffers='ema'),
    dict(type='mmdistill.ObjectBankHook'),
    # Six passes over the unlabelled scenes (the paper: five): the first round is the only one.
    dict(type='mmdistill.PseudoMiningHook', interval=450),
    dict(type='mmdistill.PseudoQualityHook', interval=20),
]
val_cfg = dict(type='mmdistill.TeacherStudentValLoop')
