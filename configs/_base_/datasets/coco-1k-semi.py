# COCO with 1000 labelled people: the first of train2017, as DualPose and MultiAugs take them. The
# unlabelled are all people of train2017 with annotated joints, the labelled ones included. For a
# stricter protocol set exclude_labeled='images' and with_keypoints_only=False.
data_root = '{{$MMDISTILL_DATA:data}}/coco/'
val_file = 'annotations/person_keypoints_val2017.json'
input_size = (192, 256)
codec = dict(type='MSRAHeatmap', input_size=input_size, heatmap_size=(48, 64), sigma=2)

crop = [
    dict(type='GetBBoxCenterScale'),
    dict(type='RandomFlip', direction='horizontal'),
    dict(type='mmdistill.ClippedBBoxTransform'),
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
    ann_file='annotations/person_keypoints_train2017.json',
    data_prefix=dict(img='train2017/'),
)
unlabeled = dict(type='mmdistill.UnlabeledPoseDataset', with_keypoints_only=True, **train_source)
train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='mmdistill.RatioSampler', batch_size=64, ratios=(1, 1), seed=0),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='mmdistill.SemiPoseDataset',
        labeled=dict(
            type='mmdistill.LabeledPoseDataset',
            dataset=dict(type='CocoDataset', **train_source),
            indices=1000,
        ),
        unlabeled=unlabeled,
        labeled_pipeline=semi_pipeline,
        unlabeled_pipeline=semi_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        ann_file=val_file,
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline=val_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', ann_file=data_root + val_file)
test_evaluator = val_evaluator
