# The teacher: five hidden layers on events of a power system with 128 measurements.
_base_ = ['../_base_/runtime.py', '../_base_/hil.py']
model = dict(
    type='mmkd.Classifier',
    network=dict(
        type='mmkd.TabularMLP', in_features=128, hidden=(512, 256, 128, 64, 32), num_classes=3
    ),
)
optim_wrapper = dict(optimizer=dict(type='Adam', lr=1e-3))
param_scheduler = []
train_cfg = dict(type='mmdistill.IterTrainLoop', max_iters=4000, val_interval=500)
