# Events of a power system, attacks among them: data.csv with a header, numbers and, in its last
# column `marker`, one of three classes.
data_root = '{{$MMDISTILL_DATA:data}}/'
events = dict(
    type='mmkd.TabularDataset',
    data_root=data_root,
    path='data.csv',
    label='marker',
    labels=[0, 1, 2],
    cache_dir='work_dirs/cache',
)
split = dict(type='mmkd.SplitDataset', dataset=dict(events, split='train'), share=0.1)
loader = dict(
    batch_size=512,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
)
shuffled = dict(loader, sampler=dict(type='DefaultSampler', shuffle=True))
train_dataloader = dict(
    shuffled, dataset=dict(type='mmkd.OverSampled', dataset=dict(split, part='train'), seed=0)
)
meta_dataloader = dict(shuffled, dataset=dict(split, part='meta'))
held_out_dataloader = dict(loader, dataset=dict(split, part='meta'))
val_dataloader = dict(loader, dataset=dict(events, split='test'))
test_dataloader = val_dataloader
val_evaluator = dict(type='mmkd.ClassificationMetric', names=['accuracy', 'auc'])
test_evaluator = val_evaluator
