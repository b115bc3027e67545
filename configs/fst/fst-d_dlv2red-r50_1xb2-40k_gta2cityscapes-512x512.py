# FST-D, DeepLabV2 with ResNet-50, GTA5 to Cityscapes.
_base_ = ['./fst-d_dlv2red-r101_1xb2-40k_gta2cityscapes-512x512.py']
weights = dict(type='Pretrained', checkpoint='open-mmlab://resnet50_v1c')
model = dict(segmentor=dict(backbone=dict(depth=50, init_cfg=weights)))
