# The teacher: ResNet-14 from scratch on a part of CIFAR-10.
_base_ = ['../_base_/runtime.py', '../_base_/cifar10_split.py']
model = dict(
    type='mmkd.Classifier', network=dict(type='mmkd.CifarNet', name='resnet14', num_classes=10)
)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4))
param_scheduler = [dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, end=1500, by_epoch=False)]
train_cfg = dict(type='mmdistill.IterTrainLoop', max_iters=1500, val_interval=500)
