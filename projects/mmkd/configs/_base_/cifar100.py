# CIFAR-100 as published: cifar-100-python/ or its archive below MMDISTILL_DATA. 5000 of the 50000
# training images are held out, 50 of each class; teachers learn from all (see `whole`).
data_root = '{{$MMDISTILL_DATA:data}}/'
num_classes = 100
images = dict(type='mmkd.CifarDataset', data_root=data_root, name='cifar100')
whole = dict(images, split='train', pad=4, flip=True)
split = dict(type='mmkd.SplitDataset', dataset=whole, share=0.1)
loader = dict(
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
)
shuffled = dict(loader, batch_size=64, sampler=dict(type='DefaultSampler', shuffle=True))
train_dataloader = dict(shuffled, dataset=dict(split, part='train'))
meta_dataloader = dict(shuffled, dataset=dict(split, part='meta'))
held_out_dataloader = dict(
    loader,
    batch_size=500,
    dataset=dict(split, dataset=dict(images, split='train'), part='meta'),
)
val_dataloader = dict(loader, batch_size=500, dataset=dict(images, split='test'))
test_dataloader = val_dataloader
val_evaluator = dict(type='mmkd.ClassificationMetric', names=['accuracy'])
test_evaluator = val_evaluator
