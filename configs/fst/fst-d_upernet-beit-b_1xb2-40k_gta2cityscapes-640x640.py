# FST-D, UPerNet with BEiT-B, GTA5 to Cityscapes.
_base_ = [
    '../_base_/models/upernet_beit-b.py',
    '../_base_/datasets/gta2cityscapes-640x640.py',
    '../_base_/fst_uda.py',
]
segmentor = _base_.model
model = dict(_delete_=True, segmentor=segmentor, **_base_.fst)
