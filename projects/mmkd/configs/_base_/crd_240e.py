# 240 epochs of 704 batches of 64, SGD, a tenth of the rate after 150, 180 and 210 (CRD's protocol,
# arXiv:1910.10699). For MobileNet and ShuffleNet the rate is 0.01.

_base_ = ['./runtime.py']
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4))
param_scheduler = [
    dict(type='MultiStepLR', milestones=[150 * 704, 180 * 704, 210 * 704], by_epoch=False)
]
train_cfg = dict(type='mmdistill.IterTrainLoop', max_iters=240 * 704, val_interval=704)
default_hooks = dict(checkpoint=dict(interval=704), logger=dict(interval=100))
