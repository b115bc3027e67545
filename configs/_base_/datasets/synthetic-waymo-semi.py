# Synthetic Waymo (tools/dataset_converters/make_synthetic.py waymo --train 4 --val 0), one sequence
# of four labelled. Waymo's records are not written: trainings have no validation.
data_root = 'data/synthetic_waymo/'
split_file = data_root + 'ImageSets_semi/train_sequence_0.25_1.json'
class_names = ['Car', 'Pedestrian', 'Cyclist']
metainfo = dict(classes=class_names)
modality = dict(use_lidar=True, use_camera=False)

# As in waymo-3d-3class-semi.py; synthetic intensities lie between 0 and 1.
load_points = dict(type='mmdistill.LoadLiDARPoints', coord_type='LIDAR', load_dim=6, use_dim=5)
meta_keys = ('sample_idx', 'labeled', 'hidden', 'box_type_3d', 'box_mode_3d', 'lidar_path')
semi_pipeline = [
    load_points,
    dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True),
    dict(
        type='Pack3DDetInputs', keys=['points', 'gt_bboxes_3d', 'gt_labels_3d'], meta_keys=meta_keys
    ),
]

waymo_train = dict(
    type='WaymoDataset',
    data_root=data_root,
    ann_file='waymo_infos_train.pkl',
    data_prefix=dict(pts='training/velodyne', sweeps='training/velodyne'),
    modality=modality,
    metainfo=metainfo,
    box_type_3d='LiDAR',
)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type='mmdistill.NaturalSampler', seed=0),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='mmdistill.SemiDet3DDataset',
        dataset=waymo_train,
        split_file=split_file,
        pipeline=semi_pipeline,
    ),
)
