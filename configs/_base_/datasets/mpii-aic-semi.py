# All labels of MPII, and unlabelled people of AI Challenger in their annotated boxes. Both
# annotation files are mmpose's.
_base_ = ['coco-1k-semi.py']
data_root = '{{$MMDISTILL_DATA:data}}/mpii/'
aic_root = '{{$MMDISTILL_DATA:data}}/aic/'
input_size = (256, 256)
codec = dict(input_size=input_size, heatmap_size=(64, 64))

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

source = dict(type='MpiiDataset', data_root=data_root, data_prefix=dict(img='images/'))
unlabeled = dict(
    _delete_=True,
    type='mmdistill.UnlabeledPoseDataset',
    data_root=aic_root,
    ann_file='annotations/aic_train.json',
    data_prefix=dict(img='ai_challenger_keypoint_train_20170902/keypoint_train_images_20170902/'),
)
train_dataloader = dict(
    dataset=dict(
        labeled=dict(
            dataset=dict(_delete_=True, ann_file='annotations/mpii_train.json', **source),
            indices=None,
        ),
        unlabeled=unlabeled,
        labeled_pipeline=semi_pipeline,
        unlabeled_pipeline=semi_pipeline,
    )
)
val_source = dict(
    _delete_=True,
    ann_file='annotations/mpii_val.json',
    headbox_file=data_root + 'annotations/mpii_gt_val.mat',
    test_mode=True,
    pipeline=val_pipeline,
    **source,
)
val_dataloader = dict(dataset=val_source)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='MpiiPCKAccuracy')
test_evaluator = val_evaluator
