# FST on CamVid with 46 labelled frames: one exact virtual step on shared draws.
_base_ = [
    '../_base_/models/seg_resnet_tiny.py',
    '../_base_/datasets/camvid-semi.py',
    '../_base_/schedules/adamw_1000it_seg.py',
    '../_base_/seg_runtime.py',
]
segmentor = _base_.model
segmentor.decode_head.num_classes = 11
model = dict(
    _delete_=True,
    type='mmdistill.FST',
    segmentor=segmentor,
    mix=dict(type='mmdistill.CutMix', probability=1.0),
    pseudo=dict(rule='entropy', drop_percent=80.0),
    joint_forward=True,
    pseudo_bn='running',
    unsup_loss='decode',
    policy='official_ssl',
    depth=1,
    keep=0.99,
    optimizer_state='isolated',
    buffers='isolated',
    draws='share',
)
# labels alone at first, as the published code does in its first epoch
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmdistill.UnsupWeightRampHook', begin=300, ramp_iters=200, shape='linear'),
]
