# Supervised burn-in on 1 % of Waymo: labelled frames five times an epoch (as on KITTI).
_base_ = [
    '../_base_/models/centerpoint-voxel_waymo.py',
    '../_base_/datasets/waymo-3d-3class-semi.py',
    '../_base_/schedules/one-cycle_30e.py',
    '../_base_/det3d_runtime.py',
]
point_cloud_range = _base_.point_cloud_range
burn_in_pipeline = [
    _base_.load_points,
    dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True),
    dict(
        type='mmdistill.ObjectBankSample',
        class_names=_base_.class_names,
        sample_groups=dict(Car=25, Pedestrian=20, Cyclist=20),
        min_points=5,
    ),
    dict(type='RandomFlip3D', flip_ratio_bev_horizontal=0.5, flip_ratio_bev_vertical=0.5),
    dict(type='GlobalRotScaleTrans', rot_range=[-0.785, 0.785], scale_ratio_range=[0.95, 1.05]),
    dict(type='PointsRangeFilter', point_cloud_range=point_cloud_range),
    dict(type='ObjectRangeFilter', point_cloud_range=point_cloud_range),
    dict(type='PointShuffle'),
    dict(type='Pack3DDetInputs', keys=['points', 'gt_bboxes_3d', 'gt_labels_3d']),
]
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='RepeatDataset',
        times=5,
        dataset=dict(
            type='mmdistill.SemiDet3DDataset',
            dataset=_base_.waymo_train,
            split_file=_base_.split_file,
            role='labeled',
            pipeline=burn_in_pipeline,
        ),
    ),
)
val_cfg = dict(_delete_=True)
default_hooks = dict(checkpoint=dict(by_epoch=True, interval=5, max_keep_ckpts=2))
log_processor = dict(window_size=50, by_epoch=True)
