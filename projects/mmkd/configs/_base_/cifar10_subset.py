# 12000 images of CIFAR-10 to train with, 2000 to validate, as JPEG in one zip file.
data_root = '{{$MMDISTILL_DATA:data}}/'
images = dict(type='mmkd.ImageDataset', data_root=data_root, path='cifar10_subset.zip')
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(images, split='train', pad=4, flip=True),
)
val_dataloader = dict(
    batch_size=200,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(images, split='test'),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmkd.ClassificationMetric', names=['accuracy'])
test_evaluator = val_evaluator
