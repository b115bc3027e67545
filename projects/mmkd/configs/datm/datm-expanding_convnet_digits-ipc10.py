# Ten images of each digit, from early segments at first and later ones bit by bit.
# First: experts_convnet_digits.py.
_base_ = ['../_base_/datm_digits.py']
model = dict(ipc=10)
train_dataloader = dict(dataset=dict(lower=0, upper=4, upper_max=16, expansion=100))
