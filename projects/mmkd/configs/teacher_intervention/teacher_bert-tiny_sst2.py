# The teacher: a tiny BERT from scratch on SST-2.
_base_ = [
    '../_base_/runtime.py',
    '../_base_/adamw.py',
    '../_base_/sst2.py',
    '../_base_/bert_tiny.py',
]
model = dict(type='mmkd.Classifier', network=_base_.network)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=100, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=100, end=1000, by_epoch=False),
]
train_cfg = dict(type='mmdistill.IterTrainLoop', max_iters=1000, val_interval=500)
