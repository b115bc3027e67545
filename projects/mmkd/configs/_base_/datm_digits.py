# Matching on scikit-learn's digits, 150 segments, seconds. First: experts_convnet_digits.py.
_base_ = ['./matching.py', './digits_images.py']
experts = 'work_dirs/experts_convnet_digits/trajectories'
model = dict(
    network=_base_.network,
    experts=experts,
    source=_base_.real_train,
    image_size=(8, 8),
    in_channels=1,
    steps=20,
    inner_lr=0.05,
    threshold=10.0,
    augment=None,
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(images=dict(lr=10.0), label_logits=dict(lr=1.0), inner_lr=dict(lr=1e-4))
    )
)
train_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(experts=experts, iterations=150)
)
train_cfg = dict(max_iters=150, val_interval=50)
default_hooks = dict(checkpoint=dict(interval=50))
val_dataloader = dict(dataset=_base_.real_held_out)
val_cfg = dict(epochs=300, runs=3, augment=None)
test_dataloader = dict(dataset=_base_.real_test)
test_cfg = dict(
    epochs=300,
    runs=3,
    augment=None,
    networks=dict(
        ConvNet=_base_.network,
        ConvNetBN=dict(_base_.network, name='ConvNetBN'),
        MLP=dict(
            type='mmkd.CondensationNet', name='MLP', num_classes=10, image_size=8, in_channels=1
        ),
    ),
)
