# DATM's published setting for CIFAR-10, 1 image per class. First: experts_convnet_cifar10.py.
_base_ = ['../_base_/datm_cifar10.py']
model = dict(ipc=1, steps=80, batch=10, threshold=1.1)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(images=dict(lr=100.0), label_logits=dict(lr=5.0), inner_lr=dict(lr=1e-07))
    )
)
train_dataloader = dict(dataset=dict(lower=0, upper=4))
