# STS-B: 5749 pairs to train with; 540 iterations are three epochs of batches of 32.
# The labels are values from 0 to 5.
_base_ = ['./glue.py']
table = dict(
    _base_.table,
    data_root='{{$MMDISTILL_DATA:data}}/glue/STS-B/',
    text=[7, 8],
    label=-1,
)
network = dict(num_labels=1)
train_dataloader = dict(dataset=dict(table, path='train.tsv'))
val_dataloader = dict(dataset=dict(table, path='dev.tsv'))
test_dataloader = val_dataloader
val_evaluator = dict(type='mmkd.ClassificationMetric', names=['pearson', 'spearman'])
test_evaluator = val_evaluator
train_cfg = dict(
    max_iters=540,
    val_interval=100,
    second_scheduler=[
        dict(_base_.train_cfg.second_scheduler[0], end=48),
        dict(_base_.train_cfg.second_scheduler[1], begin=48, end=480),
    ],
)
