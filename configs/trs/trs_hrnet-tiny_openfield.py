# TRS on frames of a mouse: 10 labelled, the others without joints.
_base_ = [
    '../_base_/models/pose_hrnet_tiny.py',
    '../_base_/datasets/openfield-semi.py',
    '../_base_/trs_tiny.py',
]
estimator = _base_.model
estimator.head.out_channels = 4
estimator.head.decoder = _base_.codec
trs = dict(_base_.trs, confidence=0.5)
model = dict(_delete_=True, estimator=estimator, **trs)
# with ten frames the others may say less
custom_hooks = [
    dict(hook, weight=0.5) if hook.type == 'mmdistill.UnsupWeightRampHook' else hook
    for hook in _base_.custom_hooks
]
