# One cycle of AdamW over 1300 iterations: a small network learns from scratch.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.003, weight_decay=1e-4, fused=True),
    constructor='mmdistill.StudentOptimWrapperConstructor',
)
param_scheduler = [
    dict(type='OneCycleLR', eta_max=0.003, total_steps=1300, pct_start=0.2, by_epoch=False)
]
train_cfg = dict(type='mmdistill.IterTrainLoop', max_iters=1300, val_interval=1300)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(enable=False, base_batch_size=32)
