# The official Waymo schedule: Adam, one cycle over 30 epochs, lr 0.001 -> 0.01 -> 0, weight decay
# 0.001, clip 10. Its total batch is unknown: 32 is ours.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.001, betas=(0.95, 0.99), weight_decay=0.001),
    clip_grad=dict(max_norm=10, norm_type=2),
)
cycle = dict(by_epoch=True, convert_to_iter_based=True)
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=12, eta_min=0.01, begin=0, end=12, **cycle),
    dict(type='CosineAnnealingLR', T_max=18, eta_min=1e-7, begin=12, end=30, **cycle),
    dict(type='CosineAnnealingMomentum', T_max=12, eta_min=0.85, begin=0, end=12, **cycle),
    dict(type='CosineAnnealingMomentum', T_max=18, eta_min=0.95, begin=12, end=30, **cycle),
]
train_cfg = dict(type='mmdistill.EpochTrainLoop', max_epochs=30, val_interval=5)
val_cfg = dict(type='mmdistill.TeacherStudentValLoop')
test_cfg = dict()
auto_scale_lr = dict(enable=False, base_batch_size=32)
