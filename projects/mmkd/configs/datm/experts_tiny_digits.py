# Two experts of two epochs each, for datm_smoke.py.
_base_ = ['./experts_convnet_digits.py']
network = dict(width=4, depth=1)
model = dict(network=network)
train_cfg = dict(experts=2, epochs=2)
