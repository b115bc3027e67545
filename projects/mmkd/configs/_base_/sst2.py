# SST-2 as text<TAB>label without header: 6919 sentences to train with, 871 to validate.
data_root = '{{$MMDISTILL_DATA:data}}/sst2/'
table = dict(
    type='mmkd.TextDataset',
    data_root=data_root,
    text=0,
    label=1,
    labels=['0', '1'],
    header=False,
    max_length=64,
    tokenizer=dict(corpus='train.tsv', vocab_size=8000),
)
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='mmkd.pad_collate'),
    dataset=dict(table, path='train.tsv'),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='mmkd.pad_collate'),
    dataset=dict(table, path='dev.tsv'),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmkd.ClassificationMetric', names=['accuracy'])
test_evaluator = val_evaluator
