# QNLI: 104743 pairs to train with; 9822 iterations are three epochs of batches of 32.
_base_ = ['./glue.py']
classes = ['entailment', 'not_entailment']
table = dict(
    _base_.table,
    data_root='{{$MMDISTILL_DATA:data}}/glue/QNLI/',
    text=[1, 2],
    label=-1,
    labels=classes,
)
network = dict(data_labels=classes, num_labels=2)
train_dataloader = dict(dataset=dict(table, path='train.tsv'))
val_dataloader = dict(dataset=dict(table, path='dev.tsv'))
test_dataloader = val_dataloader
val_evaluator = dict(type='mmkd.ClassificationMetric', names=['accuracy'])
test_evaluator = val_evaluator
train_cfg = dict(
    max_iters=9822,
    val_interval=1000,
    second_scheduler=[
        dict(_base_.train_cfg.second_scheduler[0], end=976),
        dict(_base_.train_cfg.second_scheduler[1], begin=976, end=9762),
    ],
)
