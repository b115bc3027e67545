# A hundred experts of a hundred epochs, as FTD and DATM train them.
_base_ = ['../_base_/experts.py', '../_base_/cifar10_real.py']
model = dict(type='mmkd.Classifier', network=_base_.network)
train_dataloader = dict(dataset=_base_.real_train)
train_cfg = dict(augment=dict(type='mmkd.DSA'), held_out=_base_.real_held_out)
