# A mean teacher on drawn streets that moves as fast as FST-D's: the fair control.
_base_ = ['./fst-d_resnet-tiny_streets.py']
model = dict(policy='mt', depth=0, keep=0.99**2)
