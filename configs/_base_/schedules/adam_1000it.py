# Adam over 1000 iterations, two steps down.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='Adam', lr=0.002),
    constructor='mmdistill.StudentOptimWrapperConstructor',
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=50, by_epoch=False),
    dict(type='MultiStepLR', milestones=[700, 900], gamma=0.2, by_epoch=False),
]
train_cfg = dict(type='mmdistill.IterTrainLoop', max_iters=1000, val_interval=1000)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(enable=False, base_batch_size=16)
