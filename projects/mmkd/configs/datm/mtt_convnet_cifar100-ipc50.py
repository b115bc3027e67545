# MTT (arXiv:2203.11932) on CIFAR-100, 50 per class: hard labels, segments from epoch 0 on.
# First: experts-sgd_convnet_cifar100.py.
_base_ = ['../_base_/datm_cifar100.py']
experts = 'work_dirs/experts-sgd_convnet_cifar100/trajectories'
model = dict(
    experts=experts,
    ipc=50,
    steps=80,
    batch=125,
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
train_dataloader = dict(dataset=dict(experts=experts, lower=0, upper=40))
