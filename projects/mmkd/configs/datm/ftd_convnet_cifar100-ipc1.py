# FTD (arXiv:2211.11004) on CIFAR-100, 1 per class: flat experts, hard labels.
_base_ = ['../_base_/datm_cifar100.py']
model = dict(
    ipc=1,
    steps=40,
    batch=None,
    learn_labels=False,
    init_images='real',
    init_labels='hard',
    threshold=None,
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(images=dict(lr=1000.0), label_logits=dict(lr=2.0), inner_lr=dict(lr=1e-05))
    )
)
train_dataloader = dict(dataset=dict(lower=0, upper=20, length=3))
