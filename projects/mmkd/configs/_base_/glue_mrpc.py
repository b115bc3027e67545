# MRPC: 3668 pairs to train with; 345 iterations are three epochs of batches of 32.
_base_ = ['./glue.py']
table = dict(
    _base_.table,
    data_root='{{$MMDISTILL_DATA:data}}/glue/MRPC/',
    text=[3, 4],
    label=0,
    labels=['0', '1'],
)
network = dict(data_labels=['not_equivalent', 'equivalent'], num_labels=2)
train_dataloader = dict(dataset=dict(table, path='train.tsv'))
val_dataloader = dict(dataset=dict(table, path='dev.tsv'))
test_dataloader = val_dataloader
val_evaluator = dict(type='mmkd.ClassificationMetric', names=['accuracy', 'f1'])
test_evaluator = val_evaluator
train_cfg = dict(
    max_iters=345,
    val_interval=50,
    second_scheduler=[
        dict(_base_.train_cfg.second_scheduler[0], end=28),
        dict(_base_.train_cfg.second_scheduler[1], begin=28, end=285),
    ],
)
