# FTD (arXiv:2211.11004) on Tiny ImageNet, 1 per class: flat experts, hard labels.
_base_ = ['../_base_/datm_tiny-imagenet.py']
model = dict(
    ipc=1,
    steps=30,
    batch=None,
    learn_labels=False,
    init_images='real',
    init_labels='hard',
    threshold=None,
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(
            images=dict(lr=10000.0), label_logits=dict(lr=2.0), inner_lr=dict(lr=0.0001)
        )
    )
)
train_dataloader = dict(dataset=dict(lower=0, upper=10))
