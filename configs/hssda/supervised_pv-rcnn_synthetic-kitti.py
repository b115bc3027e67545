# Labels alone: goes on from the burn-in for as many iterations as the semi-supervised runs.
_base_ = [
    '../_base_/models/pv_rcnn_tiny.py',
    '../_base_/datasets/synthetic-kitti-semi.py',
    '../_base_/schedules/one-cycle_450it.py',
    '../_base_/det3d_runtime.py',
]
load_from = 'work_dirs/burn-in_pv-rcnn_synthetic-kitti/iter_900.pth'

point_cloud_range = _base_.point_cloud_range
train_pipeline = [
    _base_.load_points,
    dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True),
    dict(
        type='mmdistill.ObjectBankSample',
        class_names=_base_.class_names,
        sample_groups=dict(Car=8, Pedestrian=8, Cyclist=8),
        min_points=5,
    ),
    dict(type='RandomFlip3D', flip_ratio_bev_horizontal=0.5),
    dict(type='GlobalRotScaleTrans', rot_range=[-0.785, 0.785], scale_ratio_range=[0.95, 1.05]),
    dict(type='PointsRangeFilter', point_cloud_range=point_cloud_range),
    dict(type='ObjectRangeFilter', point_cloud_range=point_cloud_range),
    dict(type='PointShuffle'),
    dict(type='Pack3DDetInputs', keys=['points', 'gt_bboxes_3d', 'gt_labels_3d']),
]
train_dataloader = dict(dataset=dict(role='labeled', pipeline=train_pipeline))
