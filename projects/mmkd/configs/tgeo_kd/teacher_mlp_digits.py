# The teacher: a network of two hidden layers on scikit-learn's digits. Seconds.
_base_ = ['../_base_/runtime.py', '../_base_/digits.py']
model = dict(
    type='mmkd.Classifier',
    network=dict(type='mmkd.TabularMLP', in_features=64, hidden=(256, 128), num_classes=10),
)
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01))
param_scheduler = [dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, end=600, by_epoch=False)]
train_cfg = dict(type='mmdistill.IterTrainLoop', max_iters=600, val_interval=200)
