# Distillation with one ratio for all samples. First: teacher_mlp_digits.py.
_base_ = ['../_base_/runtime.py', '../_base_/digits.py']
model = dict(
    type='mmkd.Distiller',
    student=dict(type='mmkd.TabularMLP', in_features=64, hidden=(8,), num_classes=10),
    teacher=dict(
        type='mmkd.TabularMLP',
        in_features=64,
        hidden=(256, 128),
        num_classes=10,
        checkpoint='work_dirs/teacher_mlp_digits/iter_600.pth',
    ),
    weighter=dict(type='mmkd.ConstantWeighter', ratio=0.9),
    temperature=4.0,
)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4))
param_scheduler = [dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, end=1500, by_epoch=False)]
train_cfg = dict(type='mmdistill.IterTrainLoop', max_iters=1500, val_interval=250)
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
