# A mean teacher on CamVid with 46 labelled frames, the control.
_base_ = ['./fst_resnet-tiny_camvid-1of8.py']
model = dict(policy='mt', depth=0)
