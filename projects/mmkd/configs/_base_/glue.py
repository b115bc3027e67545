# What the tasks of GLUE share: files data/glue/TASK/{train,dev}.tsv, batches of 32, and a rate of
# 2e-5. The vocabulary is that of BERT without capitals, which TinyBERT has too.
_base_ = ['./two_step.py']
network = dict(type='mmkd.HFClassifier', task='text')
table = dict(
    type='mmkd.TextDataset',
    tokenizer=dict(pretrained='{{$MMDISTILL_BERT:google-bert/bert-base-uncased}}'),
    max_length=128,
)
train_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='mmkd.pad_collate'),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='mmkd.pad_collate'),
)
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=2e-5))
