# One cycle of AdamW over 450 iterations of batch 3.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.004, betas=(0.95, 0.99), weight_decay=0.01),
    clip_grad=dict(max_norm=10, norm_type=2),
)
param_scheduler = [
    dict(type='OneCycleLR', eta_max=0.004, total_steps=450, pct_start=0.3, by_epoch=False)
]
train_cfg = dict(type='mmdistill.IterTrainLoop', max_iters=450, val_interval=450)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(enable=False, base_batch_size=3)
