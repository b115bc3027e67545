# Clicks of Criteo: 100000 rows of dac_sample.txt. A fifth is the test set; of the rest the teacher
# learns from 50400 rows and the student from 21600, of which a tenth is held out.
data_root = '{{$MMDISTILL_DATA:data}}/'
columns = dict(numeric=13, cardinalities=[10002] * 26)
clicks = dict(
    type='mmkd.CriteoDataset',
    data_root=data_root,
    path='dac_sample.txt',
    buckets=10000,
    cache_dir='work_dirs/cache',
)
split = dict(
    type='mmkd.SplitDataset',
    dataset=dict(clicks, split='train', part='student'),
    share=0.1,
)
loader = dict(
    batch_size=1024,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
)
shuffled = dict(loader, sampler=dict(type='DefaultSampler', shuffle=True))
train_dataloader = dict(shuffled, dataset=dict(split, part='train'))
meta_dataloader = dict(shuffled, dataset=dict(split, part='meta'))
held_out_dataloader = dict(loader, dataset=dict(split, part='meta'))
val_dataloader = dict(loader, dataset=dict(clicks, split='test'))
test_dataloader = val_dataloader
val_evaluator = dict(type='mmkd.ClassificationMetric', names=['auc', 'logloss'])
test_evaluator = val_evaluator
