# FTD (arXiv:2211.11004) on CIFAR-10, 1 per class: flat experts, hard labels.
_base_ = ['../_base_/datm_cifar10.py']
model = dict(
    ipc=1,
    steps=50,
    batch=None,
    learn_labels=False,
    init_images='real',
    init_labels='hard',
    threshold=None,
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(images=dict(lr=100.0), label_logits=dict(lr=2.0), inner_lr=dict(lr=1e-07))
    )
)
train_dataloader = dict(dataset=dict(lower=0, upper=2))
