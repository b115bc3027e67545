# MTT (arXiv:2203.11932) on Tiny ImageNet, 1 per class: hard labels, segments from epoch 0 on.
# First: experts-sgd_convnet_tiny-imagenet.py.
_base_ = ['../_base_/datm_tiny-imagenet.py']
experts = 'work_dirs/experts-sgd_convnet_tiny-imagenet/trajectories'
model = dict(
    experts=experts,
    ipc=1,
    steps=10,
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
train_dataloader = dict(dataset=dict(experts=experts, lower=0, upper=10))
