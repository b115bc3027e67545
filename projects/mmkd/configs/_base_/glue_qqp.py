# QQP: 363846 pairs to train with; 34113 iterations are three epochs of batches of 32.
# Some lines of the file are broken and left out.
_base_ = ['./glue.py']
table = dict(
    _base_.table,
    data_root='{{$MMDISTILL_DATA:data}}/glue/QQP/',
    text=[3, 4],
    label=5,
    labels=['0', '1'],
    skip_short=True,
)
network = dict(data_labels=['not_duplicate', 'duplicate'], num_labels=2)
train_dataloader = dict(dataset=dict(table, path='train.tsv'))
val_dataloader = dict(dataset=dict(table, path='dev.tsv'))
test_dataloader = val_dataloader
val_evaluator = dict(type='mmkd.ClassificationMetric', names=['accuracy', 'f1'])
test_evaluator = val_evaluator
train_cfg = dict(
    max_iters=34113,
    val_interval=1000,
    second_scheduler=[
        dict(_base_.train_cfg.second_scheduler[0], end=3405),
        dict(_base_.train_cfg.second_scheduler[1], begin=3405, end=34053),
    ],
)
