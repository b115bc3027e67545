# A mean teacher on drawn streets, the control.
_base_ = ['./fst-d_resnet-tiny_streets.py']
model = dict(policy='mt', depth=0)
