# CIFAR-10, a part: 12000 images, of which a tenth is held out, and 2000 to test with.
_base_ = ['./cifar10_subset.py']
split = dict(
    type='mmkd.SplitDataset',
    dataset=dict(_base_.images, split='train', pad=4, flip=True),
    share=0.1,
)
loader = dict(
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
)
meta_dataloader = dict(
    loader,
    batch_size=64,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(split, part='meta'),
)
held_out_dataloader = dict(
    loader,
    batch_size=200,
    dataset=dict(split, dataset=dict(_base_.images, split='train'), part='meta'),
)
train_dataloader = dict(dataset=dict(_delete_=True, **split, part='train'))
