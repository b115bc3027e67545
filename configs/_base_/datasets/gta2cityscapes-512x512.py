# From GTA5 (labelled, rare classes drawn more often) to Cityscapes (images alone), as DAFormer
# (arXiv:2111.14887) and FST (arXiv:2209.06993) have it. tools/dataset_converters/gta.py makes the
# labels and the statistics of GTA5.
data_root = '{{$MMDISTILL_DATA:data}}/'
crop_size = (512, 512)
load = dict(type='mmdistill.CheckedSegImage')
annotate = dict(type='mmdistill.CheckedSegAnnotations', num_classes=19)
flip, pack = dict(type='RandomFlip', prob=0.5), dict(type='PackSegInputs')
source_pipeline = [
    load,
    annotate,
    dict(type='Resize', scale=(1280, 720), keep_ratio=True),
    dict(type='mmdistill.RareClassCrop', crop_size=crop_size, cat_max_ratio=0.75),
    flip,
    dict(type='mmdistill.MultiBranch', branches=dict(sup=[pack])),
]
target_pipeline = [
    load,
    dict(type='Resize', scale=(1024, 512), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    flip,
    dict(type='mmdistill.MultiBranch', branches=dict(unsup_teacher=[pack])),
]
shrink = dict(type='Resize', scale=(1024, 512), keep_ratio=True)
val_pipeline = [load, shrink, annotate, pack]  # labels keep the size of the file

source = dict(
    type='mmdistill.RareClassDataset',
    class_stats=data_root + 'gta/class_stats.json',
    min_pixels=3000,
    temperature=0.01,
    dataset=dict(
        type='mmdistill.GTA5Dataset',
        data_root=data_root + 'gta/',
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        pipeline=source_pipeline,
    ),
)
cityscapes = dict(type='CityscapesDataset', data_root=data_root + 'cityscapes/')
val_prefix = dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val')
images = dict(data_prefix=dict(img_path='leftImg8bit/train'), pipeline=target_pipeline)
target = dict(type='mmdistill.UnlabeledSegDataset', dataset=dict(**cityscapes, **images))
train_dataloader = dict(
    batch_size=4,
    sampler=dict(type='mmdistill.RatioSampler', batch_size=4, ratios=(1, 1), seed=0),
    collate_fn=dict(type='mmdistill.branch_collate'),
    dataset=dict(type='ConcatDataset', datasets=[source, target]),
    num_workers=4,
    persistent_workers=True,
)
val_dataloader = dict(
    batch_size=1,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(data_prefix=val_prefix, test_mode=True, pipeline=val_pipeline, **cityscapes),
    num_workers=4,
    persistent_workers=True,
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
