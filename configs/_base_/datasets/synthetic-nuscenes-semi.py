# Synthetic nuScenes (tools/dataset_converters/make_synthetic.py nuscenes --train 4 --val 0), one
# sequence of four labelled. Its devkit tables are not written: trainings have no validation.
data_root = 'data/synthetic_nuscenes/'
split_file = data_root + 'ImageSets_semi/train_sequence_0.25_1.json'
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

load_points = dict(type='mmdistill.LoadLiDARPoints', coord_type='LIDAR', load_dim=5, use_dim=5)
# Two sweeps are written per key frame; as in nuscenes-3d-semi.py otherwise.
load_sweeps = dict(
    type='LoadPointsFromMultiSweeps',
    sweeps_num=2,
    use_dim=5,
    pad_empty_sweeps=True,
    remove_close=True,
    test_mode=True,
)
meta_keys = ('sample_idx', 'labeled', 'hidden', 'box_type_3d', 'box_mode_3d', 'lidar_path')
semi_pipeline = [
    load_points,
    load_sweeps,
    dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True),
    dict(type='ObjectNameFilter', classes=class_names),
    dict(
        type='Pack3DDetInputs', keys=['points', 'gt_bboxes_3d', 'gt_labels_3d'], meta_keys=meta_keys
    ),
]

nuscenes_train = dict(
    type='NuScenesDataset',
    data_root=data_root,
    ann_file='nuscenes_infos_train.pkl',
    data_prefix=dict(pts='samples/LIDAR_TOP', img='', sweeps='sweeps/LIDAR_TOP'),
    modality=modality,
    metainfo=metainfo,
    use_valid_flag=True,
    with_velocity=True,
    box_type_3d='LiDAR',
)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type='mmdistill.NaturalSampler', seed=0),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='mmdistill.SemiDet3DDataset',
        dataset=nuscenes_train,
        split_file=split_file,
        pipeline=semi_pipeline,
    ),
)
