# 10 labelled images of a mouse out of 86: images/ and annotations/{train,val}.json.
_base_ = ['openfield-info.py']
data_root = '{{$MMDISTILL_DATA:data}}/openfield/'
metainfo = _base_.dataset_info
input_size = (64, 64)
codec = dict(type='MSRAHeatmap', input_size=input_size, heatmap_size=(16, 16), sigma=1.2)

crop = [
    dict(type='GetBBoxCenterScale'),
    dict(type='RandomFlip', direction='horizontal'),
    dict(type='mmdistill.ClippedBBoxTransform', rotation_std=60.0, rotation_max=180.0),
    dict(type='TopdownAffine', input_size=input_size),
]
semi_pipeline = [dict(type='LoadImage'), *crop, dict(type='mmdistill.PackSemiPose')]
val_pipeline = [
    dict(type='LoadImage'),
    dict(type='GetBBoxCenterScale'),
    dict(type='TopdownAffine', input_size=input_size),
    dict(type='PackPoseInputs'),
]

source = dict(data_root=data_root, data_prefix=dict(img='images/'), metainfo=metainfo)
train_source = dict(ann_file='annotations/train.json', **source)
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type='mmdistill.RatioSampler', batch_size=32, ratios=(1, 1), seed=0),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='mmdistill.SemiPoseDataset',
        labeled=dict(
            type='mmdistill.LabeledPoseDataset',
            dataset=dict(type='BaseCocoStyleDataset', **train_source),
            indices=10,
        ),
        unlabeled=dict(type='mmdistill.UnlabeledPoseDataset', keep_hidden=True, **train_source),
        labeled_pipeline=semi_pipeline,
        unlabeled_pipeline=semi_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=30,
    num_workers=0,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type='BaseCocoStyleDataset',
        ann_file='annotations/val.json',
        test_mode=True,
        pipeline=val_pipeline,
        **source,
    ),
)
test_dataloader = val_dataloader
val_evaluator = [dict(type='PCKAccuracy', thr=0.05), dict(type='EPE')]
test_evaluator = val_evaluator
