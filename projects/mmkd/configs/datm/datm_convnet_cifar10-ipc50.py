# DATM's published setting for CIFAR-10, 50 images per class. First: experts_convnet_cifar10.py.
_base_ = ['../_base_/datm_cifar10.py']
model = dict(ipc=50, steps=80, batch=500)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(images=dict(lr=1000.0), label_logits=dict(lr=2.0), inner_lr=dict(lr=1e-05))
    )
)
train_dataloader = dict(dataset=dict(lower=0, upper=20, upper_max=40, expansion=2000))
