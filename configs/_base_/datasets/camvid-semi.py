# CamVid: every eighth of 367 frames has labels, the others none (images/, annotations/).
data_root = '{{$MMDISTILL_DATA:data}}/camvid/'
crop_size = (128, 128)
scale = (240, 180)
every = 8
labeled_indices = list(range(0, 367, every))
unlabeled_indices = sorted(set(range(367)) - set(labeled_indices))

crop = [
    dict(type='RandomResize', scale=scale, ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
]
labeled_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmdistill.CheckedSegAnnotations', num_classes=11),
    *crop,
    dict(type='mmdistill.MultiBranch', branches=dict(sup=[dict(type='PackSegInputs')])),
]
unlabeled_pipeline = [
    dict(type='LoadImageFromFile'),
    *crop,
    dict(type='mmdistill.MultiBranch', branches=dict(unsup_teacher=[dict(type='PackSegInputs')])),
]
val_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
labeled = dict(
    type='mmdistill.CamVidDataset',
    data_root=data_root,
    data_prefix=dict(img_path='images/train', seg_map_path='annotations/train'),
    indices=labeled_indices,
    pipeline=labeled_pipeline,
)
unlabeled = dict(
    type='mmdistill.UnlabeledSegDataset',
    dataset=dict(
        type='mmdistill.CamVidDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/train'),
        indices=unlabeled_indices,
        pipeline=unlabeled_pipeline,
    ),
)
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='mmdistill.RatioSampler', batch_size=8, ratios=(1, 1), seed=0),
    collate_fn=dict(type='mmdistill.branch_collate'),
    dataset=dict(type='ConcatDataset', datasets=[labeled, unlabeled]),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmdistill.CamVidDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/val', seg_map_path='annotations/val'),
        pipeline=val_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
