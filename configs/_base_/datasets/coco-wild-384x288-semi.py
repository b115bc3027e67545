# All labels of COCO and the people of unlabeled2017, in larger crops and smaller batches.
_base_ = ['coco-wild-semi.py']
input_size = (288, 384)
codec = dict(input_size=input_size, heatmap_size=(72, 96), sigma=3)

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

train_dataloader = dict(
    batch_size=16,
    sampler=dict(batch_size=16),
    dataset=dict(labeled_pipeline=semi_pipeline, unlabeled_pipeline=semi_pipeline),
)
val_dataloader = dict(batch_size=32, dataset=dict(pipeline=val_pipeline))
test_dataloader = val_dataloader
