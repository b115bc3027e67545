# MNLI: 392702 pairs to train with; 36816 iterations are three epochs of batches of 32.
# Validates on the matched, tests on the mismatched genres. The order of classes is that of the data
# sets of Hugging Face; teachers with another one are brought into it.
_base_ = ['./glue.py']
classes = ['entailment', 'neutral', 'contradiction']
table = dict(
    _base_.table,
    data_root='{{$MMDISTILL_DATA:data}}/glue/MNLI/',
    text=[8, 9],
    label=-1,
    labels=classes,
)
network = dict(data_labels=classes, num_labels=3)
train_dataloader = dict(dataset=dict(table, path='train.tsv'))
val_dataloader = dict(dataset=dict(table, path='dev_matched.tsv'))
test_dataloader = dict(dataset=dict(table, path='dev_mismatched.tsv'))
val_evaluator = dict(type='mmkd.ClassificationMetric', names=['accuracy'])
test_evaluator = val_evaluator
train_cfg = dict(
    max_iters=36816,
    val_interval=8000,
    second_scheduler=[
        dict(_base_.train_cfg.second_scheduler[0], end=3675),
        dict(_base_.train_cfg.second_scheduler[1], begin=3675, end=36756),
    ],
)
