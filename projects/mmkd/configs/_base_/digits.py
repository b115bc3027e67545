# scikit-learn's 1797 digits of 8x8 pixels as 64 numbers; nothing has to be downloaded.
num_classes = 10
digits = dict(type='mmkd.DigitsDataset', flat=True)
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(digits, split='train'),
)
val_dataloader = dict(
    batch_size=512,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(digits, split='test'),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmkd.ClassificationMetric', names=['accuracy'])
test_evaluator = val_evaluator
