# Burn-in on the labelled frames of KITTI, five times an epoch; a config adds the detector and keeps
# what lies in its range, between ``_base_.augmented`` and ``_base_.packed``.
_base_ = [
    './datasets/kitti-3d-3class-semi.py',
    './schedules/one-cycle_80e.py',
    './det3d_runtime.py',
]
augmented = [
    _base_.load_points,
    dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True),
    dict(
        type='mmdistill.ObjectBankSample',
        class_names=_base_.class_names,
        sample_groups=dict(Car=15, Pedestrian=10, Cyclist=10),
        min_points=5,
        use_ground_plane=True,
    ),
    dict(type='RandomFlip3D', flip_ratio_bev_horizontal=0.5),
    dict(type='GlobalRotScaleTrans', rot_range=[-0.785, 0.785], scale_ratio_range=[0.95, 1.05]),
]
packed = [
    dict(type='PointShuffle'),
    dict(type='Pack3DDetInputs', keys=['points', 'gt_bboxes_3d', 'gt_labels_3d']),
]
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        _delete_=True,
        type='RepeatDataset',
        times=5,
        dataset=dict(
            type='mmdistill.SemiDet3DDataset',
            dataset=_base_.kitti_train,
            split_file=_base_.split_file,
            role='labeled',
            pipeline=[*augmented, *packed],
        ),
    ),
)
val_cfg = dict(_delete_=True)
default_hooks = dict(checkpoint=dict(by_epoch=True, interval=5, max_keep_ckpts=2))
log_processor = dict(window_size=50, by_epoch=True)
