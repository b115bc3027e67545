# ImageNet as folders train/ and val/ of classes below MMDISTILL_DATA/imagenet; a fiftieth of the
# training images is held out. 256 images per batch: 32 on each of 8 GPUs.
data_root = '{{$MMDISTILL_DATA:data}}/imagenet'
images = dict(type='mmkd.ImageFolder', data_root=data_root)
split = dict(
    type='mmkd.SplitDataset', dataset=dict(images, split='train', augment=True), share=0.02
)
loader = dict(
    batch_size=32,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
)
shuffled = dict(loader, sampler=dict(type='DefaultSampler', shuffle=True))
train_dataloader = dict(shuffled, dataset=dict(split, part='train'))
meta_dataloader = dict(shuffled, dataset=dict(split, part='meta'))
val_dataloader = dict(loader, dataset=dict(images, split='val'))
test_dataloader = val_dataloader
val_evaluator = dict(type='mmkd.ClassificationMetric', names=['accuracy', 'top5'])
test_evaluator = val_evaluator
