# nuScenes with a labelled split by sequence (tools/dataset_converters/make_semi_split.py --infos
# data/nuscenes/nuscenes_infos_train.pkl --sizes 0.05 --by sequence). The paper has no nuScenes.
data_root = 'data/nuscenes/'
split_file = data_root + 'ImageSets_semi/train_sequence_0.05_1.json'
# In the order of CenterPoint's six tasks.
class_names = [
    'car',
    'truck',
    'construction_vehicle',
    'bus',
    'trailer',
    'barrier',
    'motorcycle',
    'bicycle',
    'pedestrian',
    'traffic_cone',
]
metainfo = dict(classes=class_names)
modality = dict(use_lidar=True, use_camera=False)
data_prefix = dict(pts='samples/LIDAR_TOP', img='', sweeps='sweeps/LIDAR_TOP')

load_points = dict(type='mmdistill.LoadLiDARPoints', coord_type='LIDAR', load_dim=5, use_dim=5)
# The key frame and the nine sweeps before it; test_mode takes the nearest ones instead of a draw,
# so that teacher, student and a resumed run read the same points.
load_sweeps = dict(
    type='LoadPointsFromMultiSweeps',
    sweeps_num=9,
    use_dim=5,
    pad_empty_sweeps=True,
    remove_close=True,
    test_mode=True,
)
# Info files also hold objects of other classes, label -1.
known_classes = dict(type='ObjectNameFilter', classes=class_names)
meta_keys = ('sample_idx', 'labeled', 'hidden', 'box_type_3d', 'box_mode_3d', 'lidar_path')
semi_pipeline = [
    load_points,
    load_sweeps,
    dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True),
    known_classes,
    dict(
        type='Pack3DDetInputs', keys=['points', 'gt_bboxes_3d', 'gt_labels_3d'], meta_keys=meta_keys
    ),
]
test_pipeline = [load_points, load_sweeps, dict(type='Pack3DDetInputs', keys=['points'])]

nuscenes_train = dict(
    type='NuScenesDataset',
    data_root=data_root,
    ann_file='nuscenes_infos_train.pkl',
    data_prefix=data_prefix,
    modality=modality,
    metainfo=metainfo,
    use_valid_flag=True,
    with_velocity=True,
    box_type_3d='LiDAR',
)
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmdistill.SemiDet3DDataset',
        dataset=nuscenes_train,
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
        type='NuScenesDataset',
        data_root=data_root,
        ann_file='nuscenes_infos_val.pkl',
        data_prefix=data_prefix,
        pipeline=test_pipeline,
        modality=modality,
        test_mode=True,
        metainfo=metainfo,
        box_type_3d='LiDAR',
    ),
)
test_dataloader = val_dataloader
# Reads the tables of the nuScenes devkit below data_root.
val_evaluator = dict(
    type='NuScenesMetric',
    data_root=data_root,
    ann_file=data_root + 'nuscenes_infos_val.pkl',
    metric='bbox',
)
test_evaluator = val_evaluator
