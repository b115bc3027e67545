# Waymo in the KITTI form that mmdet3d makes, with a labelled split by sequence
# (tools/dataset_converters/make_semi_split.py --infos
# data/waymo/kitti_format/waymo_infos_train.pkl --sizes 0.01 --by sequence). The official code
# draws single frames, whose neighbours show most of what is called unlabelled (by sequence: ours).
data_root = 'data/waymo/kitti_format/'
split_file = data_root + 'ImageSets_semi/train_sequence_0.01_1.json'
class_names = ['Car', 'Pedestrian', 'Cyclist']
metainfo = dict(classes=class_names)
modality = dict(use_lidar=True, use_camera=False)
data_prefix = dict(pts='training/velodyne', sweeps='training/velodyne')

# Of six columns (x, y, z, intensity, elongation, time) the official five; intensities have no
# upper end, hence their tanh (ours).
load_points = dict(
    type='mmdistill.LoadLiDARPoints',
    coord_type='LIDAR',
    load_dim=6,
    use_dim=5,
    norm_intensity=True,
)
meta_keys = ('sample_idx', 'labeled', 'hidden', 'box_type_3d', 'box_mode_3d', 'lidar_path')
semi_pipeline = [
    load_points,
    dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True),
    dict(
        type='Pack3DDetInputs', keys=['points', 'gt_bboxes_3d', 'gt_labels_3d'], meta_keys=meta_keys
    ),
]
test_pipeline = [
    load_points,
    dict(
        type='Pack3DDetInputs',
        keys=['points'],
        meta_keys=('box_type_3d', 'sample_idx', 'context_name', 'timestamp'),
    ),
]

waymo_train = dict(
    type='WaymoDataset',
    data_root=data_root,
    ann_file='waymo_infos_train.pkl',
    data_prefix=data_prefix,
    modality=modality,
    metainfo=metainfo,
    box_type_3d='LiDAR',
    load_interval=1,  # a split belongs to all frames of its info file
)
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmdistill.SemiDet3DDataset',
        dataset=waymo_train,
        split_file=split_file,
        pipeline=semi_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='WaymoDataset',
        data_root=data_root,
        ann_file='waymo_infos_val.pkl',
        data_prefix=data_prefix,
        pipeline=test_pipeline,
        modality=modality,
        test_mode=True,
        metainfo=metainfo,
        box_type_3d='LiDAR',
    ),
)
test_dataloader = val_dataloader
# Needs waymo_open_dataset and the ground truth in Waymo's own form.
val_evaluator = dict(type='WaymoMetric', waymo_bin_file='data/waymo/waymo_format/gt.bin')
test_evaluator = val_evaluator
