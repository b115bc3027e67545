# DATM's published setting for CIFAR-10, 500 images per class. First: experts_convnet_cifar10.py.
_base_ = ['../_base_/datm_cifar10.py']
model = dict(ipc=500, steps=40, batch=1000)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(images=dict(lr=50.0), label_logits=dict(lr=10.0), inner_lr=dict(lr=1e-05))
    )
)
train_dataloader = dict(dataset=dict(lower=40, upper=60))
train_cfg = dict(val_interval=1000)
