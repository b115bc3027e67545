# Three experts of an eighth of the usual width, 12 epochs each.
_base_ = ['../_base_/experts.py', '../_base_/cifar10_subset_real.py']
model = dict(type='mmkd.Classifier', network=_base_.network)
optim_wrapper = dict(optimizer=dict(lr=0.05))
train_dataloader = dict(batch_size=64, dataset=_base_.real_train)
train_cfg = dict(experts=3, epochs=12, held_out=_base_.real_held_out)
