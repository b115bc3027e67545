# Distillation from a teacher that is wrong about a fifth of the rows. First: teacher_mlp_table.py.
_base_ = ['../_base_/runtime.py', '../_base_/table.py']
model = dict(
    type='mmkd.Distiller',
    student=dict(type='mmkd.TabularMLP', in_features=8, hidden=(16,), num_classes=4),
    teacher=dict(
        type='mmkd.MistakenNetwork',
        network=dict(
            type='mmkd.TabularMLP',
            in_features=8,
            hidden=(64, 64),
            num_classes=4,
            checkpoint='work_dirs/teacher_mlp_table/iter_600.pth',
        ),
        share=0.2,
    ),
    weighter=dict(type='mmkd.ConstantWeighter', ratio=0.9),
    temperature=2.0,
)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9))
param_scheduler = [dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, end=1000, by_epoch=False)]
train_cfg = dict(type='mmdistill.IterTrainLoop', max_iters=1000, val_interval=250)
held_out = dict(
    type='mmkd.HeldOutValHook',
    dataloader=_base_.held_out_dataloader,
    evaluator=_base_.val_evaluator,
)
custom_hooks = [
    dict(type='mmdistill.PreemptHook'),
    dict(type='mmkd.DistillationHook'),
    held_out,
]
