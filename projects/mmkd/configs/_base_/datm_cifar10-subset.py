# Matching on a part of CIFAR-10, 100 segments. First: experts_convnet_cifar10-subset.py.
_base_ = ['./matching.py', './cifar10_subset_real.py']
experts = 'work_dirs/experts_convnet_cifar10-subset/trajectories'
model = dict(
    network=_base_.network,
    experts=experts,
    source=_base_.real_train,
    inner_lr=0.05,
    threshold=10.0,
    augment=None,
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(inner_lr=dict(lr=1e-4))))
train_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(experts=experts, iterations=100)
)
train_cfg = dict(max_iters=100, val_interval=50)
default_hooks = dict(checkpoint=dict(interval=50))
val_dataloader = dict(dataset=_base_.real_held_out)
val_cfg = dict(epochs=200, augment=None)
test_dataloader = dict(dataset=_base_.real_test)
test_cfg = dict(epochs=200, runs=3, augment=None)
