# DATM's published setting for CIFAR-100, 10 images per class. First: experts_convnet_cifar100.py.
_base_ = ['../_base_/datm_cifar100.py']
model = dict(ipc=10, steps=80, batch=1000)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(
            images=dict(lr=1000.0), label_logits=dict(lr=10.0), inner_lr=dict(lr=1e-05)
        )
    )
)
train_dataloader = dict(dataset=dict(lower=0, upper=30, upper_max=50, expansion=2000))
