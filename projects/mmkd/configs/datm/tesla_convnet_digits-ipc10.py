# The setting of datm_convnet_digits-ipc10.py with the gradient of TESLA.
_base_ = ['./datm_convnet_digits-ipc10.py']
model = dict(engine='tesla')
