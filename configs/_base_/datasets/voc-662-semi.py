# VOC 2012 with SBD's labels, 662 of 10582 images labelled, crops of U2PL (arXiv:2203.03884): half
# of the scales lie below 1; nearly all images are 500 pixels long. Pixels outside of an image have
# no label (U2PL: background) and whole images are validated (U2PL: their middle 513 x 513).
# tools/dataset_converters/make_seg_split.py makes the lists from U2PL's.
data_root = '{{$MMDISTILL_DATA:data}}/VOCdevkit/VOC2012/'
crop_size = (513, 513)
ratios = ((0.5, 1.0), (1.0, 2.0))
resize = dict(type='RandomResize', scale=(500, 500), keep_ratio=True)
load = dict(type='mmdistill.CheckedSegImage')
annotate = dict(type='mmdistill.CheckedSegAnnotations', num_classes=21)
pack = dict(type='PackSegInputs')
weak = [
    dict(type='RandomChoice', transforms=[[dict(ratio_range=r, **resize)] for r in ratios]),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
]
sup = dict(type='mmdistill.MultiBranch', branches=dict(sup=[pack]))
unsup = dict(type='mmdistill.MultiBranch', branches=dict(unsup_teacher=[pack]))

voc = dict(type='PascalVOCDataset', data_root=data_root)
labeled = dict(
    ann_file='u2pl_662/labeled.txt',
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassAug'),
    pipeline=[load, annotate, *weak, sup],
    **voc,
)
unlabeled = dict(
    ann_file='u2pl_662/unlabeled.txt',
    data_prefix=dict(img_path='JPEGImages'),
    pipeline=[load, *weak, unsup],
    **voc,
)
train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='mmdistill.RatioSampler', batch_size=8, ratios=(1, 1), seed=0),
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
        ann_file='ImageSets/Segmentation/val.txt',
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
        test_mode=True,
        pipeline=[load, annotate, pack],
        **voc,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
