# Ternary weights, 8-bit activations: 60 steps with interventions (output, context, map), then 940
# of distillation with a fresh optimizer. The rate rises for a tenth of each phase, then falls to 0.
_base_ = ['./runtime.py', './adamw.py']
first_iters = 60
model = dict(type='mmkd.TeacherIntervention', schedule='gradual', intervention_steps=first_iters)
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
