# DATM's published setting for Tiny ImageNet, 10 images per class.
# First: experts_convnet_tiny-imagenet.py.
_base_ = ['../_base_/datm_tiny-imagenet.py']
model = dict(ipc=10, steps=40, batch=500)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(
            images=dict(lr=100.0), label_logits=dict(lr=10.0), inner_lr=dict(lr=0.0001)
        )
    )
)
train_dataloader = dict(dataset=dict(lower=10, upper=50))
