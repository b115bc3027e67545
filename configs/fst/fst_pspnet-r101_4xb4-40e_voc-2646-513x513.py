# FST, PSPNet with ResNet-101, 2646 labelled images of VOC.
_base_ = ['./fst_deeplabv3plus-r101_4xb4-40e_voc-2646-513x513.py', '../_base_/models/voc_heads.py']
model = dict(segmentor=dict(decode_head=dict(_delete_=True, **_base_.psp_head)))
