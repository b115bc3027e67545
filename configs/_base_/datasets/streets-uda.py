# Drawn streets (tools/dataset_converters/make_synthetic.py streets): labels of the game (source),
# images of the camera (target).
data_root = 'data/synthetic_streets/'
crop_size = (128, 128)
files = dict(img_suffix='_leftImg8bit.png', seg_map_suffix='_gtFine_labelTrainIds.png')

source_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmdistill.CheckedSegAnnotations', num_classes=19),
    dict(type='mmdistill.RareClassCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='mmdistill.MultiBranch', branches=dict(sup=[dict(type='PackSegInputs')])),
]
target_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='mmdistill.MultiBranch', branches=dict(unsup_teacher=[dict(type='PackSegInputs')])),
]
val_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
source = dict(
    type='mmdistill.RareClassDataset',
    class_stats=data_root + 'source/class_stats.json',
    min_pixels=60,
    dataset=dict(
        type='CityscapesDataset',
        data_root=data_root + 'source',
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
        pipeline=source_pipeline,
        **files,
    ),
)
target = dict(
    type='mmdistill.UnlabeledSegDataset',
    dataset=dict(
        type='CityscapesDataset',
        data_root=data_root + 'target',
        data_prefix=dict(img_path='leftImg8bit/train'),
        pipeline=target_pipeline,
        **files,
    ),
)
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='mmdistill.RatioSampler', batch_size=8, ratios=(1, 1), seed=0),
    collate_fn=dict(type='mmdistill.branch_collate'),
    dataset=dict(type='ConcatDataset', datasets=[source, target]),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CityscapesDataset',
        data_root=data_root + 'target',
        data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
        pipeline=val_pipeline,
        test_mode=True,
        **files,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
