# Matching on tiny-imagenet: experts, images and networks. First: experts_convnet_tiny-imagenet.py.
_base_ = ['./matching.py', './tiny_imagenet_real.py']
experts = 'work_dirs/experts_convnet_tiny-imagenet/trajectories'
model = dict(
    network=_base_.network,
    experts=experts,
    source=_base_.real_train,
    num_classes=200,
    image_size=(64, 64),
)
train_dataloader = dict(dataset=dict(experts=experts))
val_dataloader = dict(dataset=_base_.real_held_out)
test_dataloader = dict(dataset=_base_.real_test)
network_names = ('ConvNet', 'ConvNetBN', 'AlexNet', 'VGG11', 'ResNet18', 'MLP', 'LeNet')
test_cfg = dict(
    networks={
        name: dict(type='mmkd.CondensationNet', name=name, num_classes=200, image_size=64)
        for name in network_names
    }
)
