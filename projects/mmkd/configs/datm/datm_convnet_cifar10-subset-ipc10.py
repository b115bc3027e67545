# 10 images per class of a part of CIFAR-10. First: experts_convnet_cifar10-subset.py.
_base_ = ['../_base_/datm_cifar10-subset.py']
model = dict(ipc=10, steps=15, batch=50)
train_dataloader = dict(dataset=dict(lower=0, upper=6))
