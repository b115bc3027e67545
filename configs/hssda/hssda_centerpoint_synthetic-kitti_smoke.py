# Eight iterations of HSSDA with two mining rounds and four checkpoints: does everything run?
_base_ = ['./hssda_centerpoint_synthetic-kitti.py']
load_from = None
train_dataloader = dict(batch_size=2, sampler=dict(batch_size=2, ratios=(1, 1)))
# An untrained teacher knows nothing: thresholds and removal start where its scores are.
model = dict(
    thresholds=dict(init=dict(heatmap_peak=0.05, view_iou=0.05)),
    low=dict(score_thr=0.04),
    teacher_test_cfg=dict(score_threshold=0.02),
)
param_scheduler = [
    dict(type='OneCycleLR', eta_max=0.004, total_steps=8, pct_start=0.3, by_epoch=False)
]
train_cfg = dict(max_iters=8, val_interval=8)
default_hooks = dict(checkpoint=dict(interval=2, max_keep_ckpts=3), logger=dict(interval=1))
custom_hooks = [
    dict(type='mmdistill.PreemptHook'),
    dict(type='mmdistill.TeacherUpdateHook', momentum=_base_.ema, buffers='ema'),
    dict(type='mmdistill.ObjectBankHook'),
    dict(type='mmdistill.PseudoMiningHook', interval=4),
    dict(type='mmdistill.PseudoQualityHook', interval=2),
]
