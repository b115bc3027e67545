# FST-D, DAFormer's network, GTA5 to Cityscapes.
_base_ = [
    '../_base_/models/daformer_mit-b5.py',
    '../_base_/datasets/gta2cityscapes-512x512.py',
    '../_base_/fst_uda.py',
]
segmentor = _base_.model
model = dict(_delete_=True, segmentor=segmentor, **_base_.fst)
