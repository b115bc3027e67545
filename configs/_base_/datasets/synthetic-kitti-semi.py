# Synthetic KITTI (tools/dataset_converters/make_synthetic.py kitti), labelled and unlabelled.
data_root = 'data/synthetic_kitti/'
split_file = data_root + 'ImageSets_semi/train_4_1.txt'
class_names = ['Pedestrian', 'Cyclist', 'Car']
metainfo = dict(classes=class_names)
modality = dict(use_lidar=True, use_camera=False)

load_points = dict(type='mmdistill.LoadLiDARPoints', coord_type='LIDAR', load_dim=4, use_dim=4)
meta_keys = ('sample_idx', 'labeled', 'hidden', 'plane', 'box_type_3d', 'box_mode_3d', 'lidar_path')
# Branch views are made on the device: the pipeline only reads.
semi_pipeline = [
    load_points,
    dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True),
    dict(
        type='Pack3DDetInputs', keys=['points', 'gt_bboxes_3d', 'gt_labels_3d'], meta_keys=meta_keys
    ),
]
test_pipeline = [load_points, dict(type='Pack3DDetInputs', keys=['points'])]

kitti_train = dict(
    type='KittiDataset',
    data_root=data_root,
    ann_file='kitti_infos_train.pkl',
    data_prefix=dict(pts='training/velodyne_reduced'),
    modality=modality,
    metainfo=metainfo,
    box_type_3d='LiDAR',
)
train_dataloader = dict(
    batch_size=3,
    num_workers=0,
    sampler=dict(type='mmdistill.NaturalSampler', seed=0),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='mmdistill.SemiDet3DDataset',
        dataset=kitti_train,
        split_file=split_file,
        pipeline=semi_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='KittiDataset',
        data_root=data_root,
        ann_file='kitti_infos_val.pkl',
        data_prefix=dict(pts='training/velodyne_reduced'),
        pipeline=test_pipeline,
        modality=modality,
        test_mode=True,
        metainfo=metainfo,
        box_type_3d='LiDAR',
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmdistill.KittiMetric', ann_file=data_root + 'kitti_infos_val.pkl')
test_evaluator = val_evaluator
