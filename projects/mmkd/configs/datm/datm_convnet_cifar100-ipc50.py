# DATM's published setting for CIFAR-100, 50 images per class. First: experts_convnet_cifar100.py.
_base_ = ['../_base_/datm_cifar100.py']
model = dict(ipc=50, steps=80, batch=1000, init_images='real', init_labels='first')
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(
            images=dict(lr=1000.0), label_logits=dict(lr=10.0), inner_lr=dict(lr=1e-05)
        )
    )
)
train_dataloader = dict(dataset=dict(lower=20, upper=70))
