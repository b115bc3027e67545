# One cycle over 20 epochs, lr 0.0001 -> 0.001 -> 1e-8, total batch 32: mmdet3d's schedule of
# CenterPoint on nuScenes, with HSSDA's momentum.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.95, 0.99), weight_decay=0.01),
    clip_grad=dict(max_norm=35, norm_type=2),
)
cycle = dict(by_epoch=True, convert_to_iter_based=True)
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=8, eta_min=1e-3, begin=0, end=8, **cycle),
    dict(type='CosineAnnealingLR', T_max=12, eta_min=1e-8, begin=8, end=20, **cycle),
    dict(type='CosineAnnealingMomentum', T_max=8, eta_min=0.85, begin=0, end=8, **cycle),
    dict(type='CosineAnnealingMomentum', T_max=12, eta_min=0.95, begin=8, end=20, **cycle),
]
train_cfg = dict(type='mmdistill.EpochTrainLoop', max_epochs=20, val_interval=5)
val_cfg = dict(type='mmdistill.TeacherStudentValLoop')
test_cfg = dict()
auto_scale_lr = dict(enable=False, base_batch_size=32)
