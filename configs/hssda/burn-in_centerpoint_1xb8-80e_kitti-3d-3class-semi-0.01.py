# Supervised burn-in on 1 % of KITTI: labelled frames five times an epoch, 80 epochs.
_base_ = ['../_base_/models/centerpoint_kitti.py', '../_base_/hssda_burn-in_kitti.py']

point_cloud_range = _base_.model.data_preprocessor.voxel_layer.point_cloud_range
burn_in_pipeline = [
    *_base_.augmented,
    dict(type='PointsRangeFilter', point_cloud_range=point_cloud_range),
    dict(type='ObjectRangeFilter', point_cloud_range=point_cloud_range),
    *_base_.packed,
]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=burn_in_pipeline)))
