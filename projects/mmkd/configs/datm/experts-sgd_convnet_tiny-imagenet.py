# Experts of plain SGD and 50 epochs, as MTT has them.
_base_ = ['./experts_convnet_tiny-imagenet.py']
train_cfg = dict(epochs=50, rho=0.0, alpha=0.0)
