# One image of each digit, from segments of the first epochs. First: experts_convnet_digits.py.
_base_ = ['../_base_/datm_digits.py']
model = dict(ipc=1, steps=10)
train_dataloader = dict(dataset=dict(lower=0, upper=4))
