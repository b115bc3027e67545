# The teacher: resnet56 on all 50000 training images of CIFAR-100.
_base_ = ['../_base_/cifar100.py', '../_base_/crd_240e.py']
model = dict(
    type='mmkd.Classifier', network=dict(type='mmkd.CifarNet', name='resnet56', num_classes=100)
)
train_dataloader = dict(dataset=dict(_delete_=True, **_base_.whole))
