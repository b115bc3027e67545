# TRS on drawn people: 30 labelled, the others without joints.
_base_ = [
    '../_base_/models/pose_hrnet_tiny.py',
    '../_base_/datasets/people-semi.py',
    '../_base_/trs_tiny.py',
]
estimator = _base_.model
estimator.head.decoder = _base_.codec
model = dict(_delete_=True, estimator=estimator, **_base_.trs)
