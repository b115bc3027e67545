# Ten images of each digit, from segments of late epochs. First: experts_convnet_digits.py.
_base_ = ['../_base_/datm_digits.py']
model = dict(ipc=10)
train_dataloader = dict(dataset=dict(lower=8, upper=16))
