# 1 image per class of a part of CIFAR-10. First: experts_convnet_cifar10-subset.py.
_base_ = ['../_base_/datm_cifar10-subset.py']
model = dict(ipc=1, steps=10, inner_lr=0.05, threshold=10.0, augment=None)
train_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(iterations=100, lower=0, upper=3)
)
train_cfg = dict(max_iters=100, val_interval=50)
default_hooks = dict(checkpoint=dict(interval=50))
val_cfg = dict(epochs=200, runs=1, augment=None)
test_cfg = dict(epochs=200, runs=3, augment=None)
