# Drawn people with COCO's joints (tools/dataset_converters/make_synthetic.py people --upright).
data_root = 'data/synthetic_people/'
val_file = 'annotations/person_keypoints_val.json'
input_size = (64, 96)
codec = dict(type='MSRAHeatmap', input_size=input_size, heatmap_size=(16, 24), sigma=1.2)

crop = [
    dict(type='GetBBoxCenterScale'),
    dict(type='RandomFlip', direction='horizontal'),
    dict(type='mmdistill.ClippedBBoxTransform', rotation_std=20.0, rotation_max=40.0),
    dict(type='TopdownAffine', input_size=input_size),
]
semi_pipeline = [dict(type='LoadImage'), *crop, dict(type='mmdistill.PackSemiPose')]
val_pipeline = [
    dict(type='LoadImage'),
    dict(type='GetBBoxCenterScale'),
    dict(type='TopdownAffine', input_size=input_size),
    dict(type='PackPoseInputs'),
]

train_source = dict(
    data_root=data_root,
    ann_file='annotations/person_keypoints_train.json',
    data_prefix=dict(img='images/train/'),
)
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type='mmdistill.RatioSampler', batch_size=32, ratios=(1, 1), seed=0),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='mmdistill.SemiPoseDataset',
        labeled=dict(
            type='mmdistill.LabeledPoseDataset',
            dataset=dict(type='CocoDataset', **train_source),
            indices=30,
        ),
        unlabeled=dict(type='mmdistill.UnlabeledPoseDataset', keep_hidden=True, **train_source),
        labeled_pipeline=semi_pipeline,
        unlabeled_pipeline=semi_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=0,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        ann_file=val_file,
        data_prefix=dict(img='images/val/'),
        test_mode=True,
        pipeline=val_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', ann_file=data_root + val_file)
test_evaluator = val_evaluator
