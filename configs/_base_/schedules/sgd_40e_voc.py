# 40 passes over the 9920 unlabelled images of VOC (662 labelled) with 4 GPUs and 4 + 4 crops each.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.001, momentum=0.9, weight_decay=1e-4),
    constructor='mmdistill.StudentOptimWrapperConstructor',
    paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=10.0))),
)
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=24801, by_epoch=False)]
train_cfg = dict(type='mmdistill.IterTrainLoop', max_iters=24800, val_interval=620)
auto_scale_lr = dict(enable=False, base_batch_size=32)
