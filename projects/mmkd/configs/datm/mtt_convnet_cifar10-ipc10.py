# MTT (arXiv:2203.11932) on CIFAR-10, 10 per class: hard labels, segments from epoch 0 on.
# First: experts-sgd_convnet_cifar10.py.
_base_ = ['../_base_/datm_cifar10.py']
experts = 'work_dirs/experts-sgd_convnet_cifar10/trajectories'
model = dict(
    experts=experts,
    ipc=10,
    steps=30,
    batch=None,
    inner_lr=0.001,
    learn_labels=False,
    init_images='real',
    init_labels='hard',
    threshold=None,
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(images=dict(lr=100.0), label_logits=dict(lr=2.0), inner_lr=dict(lr=1e-05))
    )
)
train_dataloader = dict(dataset=dict(experts=experts, lower=0, upper=20))
