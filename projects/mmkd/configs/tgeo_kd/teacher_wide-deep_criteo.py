# The teacher: Wide & Deep on clicks.
_base_ = ['../_base_/runtime.py', '../_base_/criteo.py']
model = dict(
    type='mmkd.Classifier',
    network=dict(type='mmkd.WideAndDeep', **_base_.columns, embedding=16, hidden=(64, 64)),
)
train_dataloader = dict(dataset=dict(_delete_=True, **_base_.clicks, split='train', part='teacher'))
optim_wrapper = dict(optimizer=dict(type='Adam', lr=1e-3, weight_decay=1e-2))
param_scheduler = []
train_cfg = dict(type='mmdistill.IterTrainLoop', max_iters=1000, val_interval=100)
