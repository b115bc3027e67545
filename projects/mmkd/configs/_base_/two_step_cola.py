# As published for CoLA: 120 steps with interventions, 1605 in all, three epochs of batches of 16.
_base_ = ['./two_step.py']
first_iters = 120
model = dict(intervention_steps=first_iters)
param_scheduler = [
    dict(_base_.param_scheduler[0], end=12),
    dict(_base_.param_scheduler[1], begin=12, end=first_iters),
]
train_cfg = dict(
    max_iters=1605,
    val_interval=50,
    first_iters=first_iters,
    second_scheduler=[
        dict(_base_.train_cfg.second_scheduler[0], end=148),
        dict(_base_.train_cfg.second_scheduler[1], begin=148, end=1485),
    ],
)
