# DATM's published setting for CIFAR-100, 100 images per class. First: experts_convnet_cifar100.py.
_base_ = ['../_base_/datm_cifar100.py']
model = dict(ipc=100, steps=80, batch=1000)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(images=dict(lr=50.0), label_logits=dict(lr=10.0), inner_lr=dict(lr=1e-05))
    )
)
train_dataloader = dict(dataset=dict(lower=30, upper=70))
