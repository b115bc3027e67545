# DATM's setting with the gradient of TESLA (arXiv:2211.10586), which leaves the Hessian out.
_base_ = ['./datm_convnet_cifar100-ipc10.py']
model = dict(engine='tesla')
