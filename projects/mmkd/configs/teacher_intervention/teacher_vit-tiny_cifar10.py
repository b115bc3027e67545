# The teacher: a tiny ViT from scratch on a part of CIFAR-10.
_base_ = [
    '../_base_/runtime.py',
    '../_base_/adamw.py',
    '../_base_/cifar10_subset.py',
    '../_base_/vit_tiny.py',
]
model = dict(type='mmkd.Classifier', network=_base_.network)
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=200, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=200, end=4000, by_epoch=False),
]
train_cfg = dict(type='mmdistill.IterTrainLoop', max_iters=4000, val_interval=1000)
