# 80 passes over the 2231 unlabelled images of Cityscapes (744 labelled), 8 GPUs, 2 + 2 crops each.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4),
    constructor='mmdistill.StudentOptimWrapperConstructor',
    paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=10.0))),
)
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=11121, by_epoch=False)]
train_cfg = dict(type='mmdistill.IterTrainLoop', max_iters=11120, val_interval=139)
auto_scale_lr = dict(enable=False, base_batch_size=32)
