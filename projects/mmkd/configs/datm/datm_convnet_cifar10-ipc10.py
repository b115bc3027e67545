# DATM's published setting for CIFAR-10, 10 images per class. First: experts_convnet_cifar10.py.
_base_ = ['../_base_/datm_cifar10.py']
model = dict(ipc=10, steps=80, batch=100)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(images=dict(lr=100.0), label_logits=dict(lr=2.0), inner_lr=dict(lr=1e-05))
    )
)
train_dataloader = dict(dataset=dict(lower=0, upper=10, upper_max=20, expansion=1000))
