# Ternary weights, 8-bit activations: 60 steps with interventions (output, context, map), then 940
# of distillation with a fresh optimizer. First: teacher_vit-tiny_cifar10.py.
_base_ = ['../_base_/runtime.py', '../_base_/cifar10_subset.py', '../_base_/vit_tiny.py']
first_iters = 60
model = dict(
    type='mmkd.TeacherIntervention',
    teacher=dict(_base_.network, checkpoint='work_dirs/teacher_vit-tiny_cifar10/iter_4000.pth'),
    schedule='gradual',
    intervention_steps=first_iters,
)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-4, weight_decay=0.01),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=6, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=6, end=first_iters, by_epoch=False),
]
train_cfg = dict(
    type='mmkd.TwoStepTrainLoop',
    max_iters=1000,
    val_interval=100,
    first_iters=first_iters,
    second_scheduler=[
        dict(type='LinearLR', start_factor=0.01, begin=0, end=94, by_epoch=False),
        dict(type='PolyLR', power=1.0, eta_min=0.0, begin=94, end=940, by_epoch=False),
    ],
)
custom_hooks = [dict(type='mmdistill.PreemptHook'), dict(type='mmkd.InterventionHook')]
