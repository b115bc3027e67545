# FST-D on drawn streets: one exact virtual step, whose label pass costs little.
_base_ = [
    '../_base_/models/seg_resnet_tiny.py',
    '../_base_/datasets/streets-uda.py',
    '../_base_/schedules/adamw_1000it_seg.py',
    '../_base_/seg_runtime.py',
]
segmentor = _base_.model
model = dict(
    _delete_=True,
    type='mmdistill.FST',
    segmentor=segmentor,
    mix=dict(type='mmdistill.ClassMix', scope='batch'),
    strong=dict(type='mmdistill.StrongPhotometric'),
    pseudo=dict(rule='share', threshold=0.968, bottom_rows=12),
    policy='official_d',
    depth=1,
    keep=0.99,
    optimizer_state='isolated',
    buffers='isolated',
    reuse=True,
    draws='share',
)
