# SST-2: 67349 sentences to train with; 6315 iterations are three epochs of batches of 32.
_base_ = ['./glue.py']
table = dict(
    _base_.table,
    data_root='{{$MMDISTILL_DATA:data}}/glue/SST-2/',
    text=0,
    label=1,
    labels=['0', '1'],
    max_length=64,
)
network = dict(data_labels=['negative', 'positive'], num_labels=2)
train_dataloader = dict(dataset=dict(table, path='train.tsv'))
val_dataloader = dict(dataset=dict(table, path='dev.tsv'))
test_dataloader = val_dataloader
val_evaluator = dict(type='mmkd.ClassificationMetric', names=['accuracy'])
test_evaluator = val_evaluator
train_cfg = dict(
    max_iters=6315,
    val_interval=100,
    second_scheduler=[
        dict(_base_.train_cfg.second_scheduler[0], end=625),
        dict(_base_.train_cfg.second_scheduler[1], begin=625, end=6255),
    ],
)
