# CoLA: 8551 sentences to train with; 1605 iterations are three epochs of batches of 16.
# Files have no header.
_base_ = ['./glue.py']
first_iters = 120
table = dict(
    _base_.table,
    data_root='{{$MMDISTILL_DATA:data}}/glue/CoLA/',
    text=3,
    label=1,
    labels=['0', '1'],
    header=False,
    max_length=64,
)
network = dict(data_labels=['unacceptable', 'acceptable'], num_labels=2)
train_dataloader = dict(batch_size=16, dataset=dict(table, path='train.tsv'))
val_dataloader = dict(dataset=dict(table, path='dev.tsv'))
test_dataloader = val_dataloader
val_evaluator = dict(type='mmkd.ClassificationMetric', names=['mcc'])
test_evaluator = val_evaluator
model = dict(intervention_steps=first_iters)
param_scheduler = [
    dict(_base_.param_scheduler[0], end=12),
    dict(_base_.param_scheduler[1], begin=12, end=first_iters),
]
train_cfg = dict(
    max_iters=1605,
    val_interval=50,
    first_iters=first_iters,
    second_scheduler=[
        dict(_base_.train_cfg.second_scheduler[0], end=148),
        dict(_base_.train_cfg.second_scheduler[1], begin=148, end=1485),
    ],
)
