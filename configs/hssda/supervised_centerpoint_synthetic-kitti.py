# Labels alone: goes on from the burn-in for as many iterations as the semi-supervised runs.
_base_ = ['../_base_/models/centerpoint_tiny.py', '../_base_/supervised_synthetic-kitti.py']
load_from = 'work_dirs/burn-in_centerpoint_synthetic-kitti/iter_900.pth'

point_cloud_range = _base_.point_cloud_range
train_pipeline = [
    *_base_.augmented,
    dict(type='PointsRangeFilter', point_cloud_range=point_cloud_range),
    dict(type='ObjectRangeFilter', point_cloud_range=point_cloud_range),
    *_base_.packed,
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
