# AdamW over 1000 iterations, warm-up and linear decay: a small network learns from scratch.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.008, weight_decay=0.01),
    constructor='mmdistill.StudentOptimWrapperConstructor',
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=100, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, end=1001, by_epoch=False),
]
train_cfg = dict(type='mmdistill.IterTrainLoop', max_iters=1000, val_interval=1000)
auto_scale_lr = dict(enable=False, base_batch_size=8)
