# One cycle of AdamW over 250 iterations of batch 4.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.003, betas=(0.95, 0.99), weight_decay=0.01),
    clip_grad=dict(max_norm=10, norm_type=2),
)
param_scheduler = [
    dict(type='OneCycleLR', eta_max=0.003, total_steps=250, pct_start=0.3, by_epoch=False)
]
train_cfg = dict(type='mmdistill.IterTrainLoop', max_iters=250, val_interval=250)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(enable=False, base_batch_size=4)
