# DAFormer's schedule: 40000 iterations of 2 source and 2 target crops on one GPU. The ends of the
# schedulers lie one later than the published numbers, for mmengine counts both ends: the warm-up
# multiplies the decay, which starts with it. Rules of paramwise_cfg: a name with 'head' takes that
# one even if it has 'norm' too; batch norms of a ResNet are called bn and decay.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    constructor='mmdistill.StudentOptimWrapperConstructor',
    paramwise_cfg=dict(
        custom_keys=dict(
            head=dict(lr_mult=10.0), pos_block=dict(decay_mult=0.0), norm=dict(decay_mult=0.0)
        )
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=1501, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, end=40001, by_epoch=False),
]
train_cfg = dict(type='mmdistill.IterTrainLoop', max_iters=40000, val_interval=2000)
auto_scale_lr = dict(enable=False, base_batch_size=4)
