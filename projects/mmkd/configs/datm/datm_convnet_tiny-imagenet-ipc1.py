# DATM's published setting for Tiny ImageNet, 1 image per class.
# First: experts_convnet_tiny-imagenet.py.
_base_ = ['../_base_/datm_tiny-imagenet.py']
model = dict(ipc=1, steps=40, batch=1000)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(
            images=dict(lr=10000.0), label_logits=dict(lr=10.0), inner_lr=dict(lr=0.0001)
        )
    )
)
train_dataloader = dict(dataset=dict(lower=0, upper=15, upper_max=20, expansion=2000))
