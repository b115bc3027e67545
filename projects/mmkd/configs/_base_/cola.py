# CoLA as source<TAB>label<TAB>star<TAB>text without header: 8551 sentences to train with, 527 of
# the same sources to validate. 1605 iterations are three epochs.
data_root = '{{$MMDISTILL_DATA:data}}/cola/'
table = dict(
    type='mmkd.TextDataset',
    data_root=data_root,
    text=3,
    label=1,
    labels=['0', '1'],
    header=False,
    max_length=64,
    tokenizer=dict(corpus='in_domain_train.tsv', vocab_size=8000),
)
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='mmkd.pad_collate'),
    dataset=dict(table, path='in_domain_train.tsv'),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='mmkd.pad_collate'),
    dataset=dict(table, path='in_domain_dev.tsv'),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmkd.ClassificationMetric', names=['mcc'])
test_evaluator = val_evaluator
