# Labelled frames of synthetic KITTI alone; a config adds the detector and keeps what lies in its
# range, between ``_base_.augmented`` and ``_base_.packed``.
_base_ = [
    './datasets/synthetic-kitti-semi.py',
    './schedules/one-cycle_450it.py',
    './det3d_runtime.py',
]
augmented = [
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
]
packed = [
    dict(type='PointShuffle'),
    dict(type='Pack3DDetInputs', keys=['points', 'gt_bboxes_3d', 'gt_labels_3d']),
]
train_dataloader = dict(dataset=dict(role='labeled', pipeline=[*augmented, *packed]))
