# A drawn table of overlapping clouds. 600 rows have labels: a third of them is held out, of the
# others a tenth is noise. 8000 rows are the teacher's alone, 4000 are the test set.
table = dict(type='mmkd.DrawnTable')
split = dict(type='mmkd.SplitDataset', dataset=dict(table, split='train', size=600), share=0.333)
loader = dict(
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
)
shuffled = dict(loader, sampler=dict(type='DefaultSampler', shuffle=True), batch_size=64)
train_dataloader = dict(
    shuffled,
    dataset=dict(
        type='mmkd.Corrupted', dataset=dict(split, part='train'), share=0.1, kind='inputs', seed=1
    ),
)
meta_dataloader = dict(shuffled, dataset=dict(split, part='meta'))
held_out_dataloader = dict(loader, batch_size=512, dataset=dict(split, part='meta'))
val_dataloader = dict(loader, batch_size=1000, dataset=dict(table, split='test', size=4000))
test_dataloader = val_dataloader
val_evaluator = dict(type='mmkd.ClassificationMetric', names=['accuracy'])
test_evaluator = val_evaluator
