# The teacher: a network of two hidden layers on 8000 rows of a drawn table. Seconds.
_base_ = ['../_base_/runtime.py', '../_base_/table.py']
model = dict(
    type='mmkd.Classifier',
    network=dict(type='mmkd.TabularMLP', in_features=8, hidden=(64, 64), num_classes=4),
)
train_dataloader = dict(dataset=dict(_delete_=True, **_base_.table, split='teacher', size=8000))
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01))
param_scheduler = [dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, end=600, by_epoch=False)]
train_cfg = dict(type='mmdistill.IterTrainLoop', max_iters=600, val_interval=200)
