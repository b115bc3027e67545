# Cityscapes, 744 of 2975 images labelled, crops of U2PL (arXiv:2203.03884): half of the scales lie
# below 1. Pixels outside of an image have no label (U2PL: road).
# tools/dataset_converters/make_seg_split.py makes the lists from U2PL's.
data_root = '{{$MMDISTILL_DATA:data}}/cityscapes/'
crop_size = (769, 769)
ratios = ((0.5, 1.0), (1.0, 2.0))
resize = dict(type='RandomResize', scale=(2048, 1024), keep_ratio=True)
load = dict(type='mmdistill.CheckedSegImage')
annotate = dict(type='mmdistill.CheckedSegAnnotations', num_classes=19)
pack = dict(type='PackSegInputs')
weak = [
    dict(type='RandomChoice', transforms=[[dict(ratio_range=r, **resize)] for r in ratios]),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
]
sup = dict(type='mmdistill.MultiBranch', branches=dict(sup=[pack]))
unsup = dict(type='mmdistill.MultiBranch', branches=dict(unsup_teacher=[pack]))

cityscapes = dict(type='CityscapesDataset', data_root=data_root)
labeled = dict(
    ann_file='u2pl_744/labeled.txt',
    data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
    pipeline=[load, annotate, *weak, sup],
    **cityscapes,
)
unlabeled = dict(
    ann_file='u2pl_744/unlabeled.txt',
    data_prefix=dict(img_path='leftImg8bit/train'),
    pipeline=[load, *weak, unsup],
    **cityscapes,
)
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='mmdistill.RatioSampler', batch_size=4, ratios=(1, 1), seed=0),
    collate_fn=dict(type='mmdistill.branch_collate'),
    dataset=dict(
        type='ConcatDataset',
        datasets=[labeled, dict(type='mmdistill.UnlabeledSegDataset', dataset=unlabeled)],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
        test_mode=True,
        pipeline=[load, annotate, pack],
        **cityscapes,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
