# Ten images of each digit by MTT: hard labels, real images at first, all epochs.
# First: experts_convnet_digits.py.
_base_ = ['../_base_/datm_digits.py']
model = dict(ipc=10, learn_labels=False, init_images='real', init_labels='hard')
train_dataloader = dict(dataset=dict(lower=0, upper=16))
