# scikit-learn's digits of 8x8 pixels as 64 numbers; nothing has to be downloaded. Half of them are
# the test set; a tenth of the other half is held out: learned ratios are learned by it, others are
# chosen by it.
digits = dict(type='mmkd.DigitsDataset', flat=True, test_share=0.5)
split = dict(type='mmkd.SplitDataset', dataset=dict(digits, split='train'), share=0.1)
loader = dict(
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
)
shuffled = dict(loader, sampler=dict(type='DefaultSampler', shuffle=True))
train_dataloader = dict(shuffled, batch_size=64, dataset=dict(split, part='train'))
held_out_dataloader = dict(loader, batch_size=512, dataset=dict(split, part='meta'))
meta_dataloader = dict(shuffled, batch_size=64, dataset=dict(split, part='meta'))
val_dataloader = dict(loader, batch_size=512, dataset=dict(digits, split='test'))
test_dataloader = val_dataloader
val_evaluator = dict(type='mmkd.ClassificationMetric', names=['accuracy'])
test_evaluator = val_evaluator
