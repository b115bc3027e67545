# Explanation tuning: a language model learns the answers of teachers, packed, in stages.
_base_ = ['./runtime.py']
seed = 0
batch_size = 2
accumulate = 1
cap = 2048
template = 'plain'
model = dict(type='mmkd.CausalStudent')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-5, betas=(0.9, 0.95), weight_decay=0.0),
    clip_grad=dict(max_norm=1.0),
)
# shares of a stage: three per cent of warm-up, then a cosine to a tenth
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0.0, end=0.03),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.1, begin=0.03, end=1.0),
]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=2,
    persistent_workers=True,
    # the curriculum has an order of its own
    sampler=dict(type='mmdistill.NaturalSampler', shuffle=False),
    collate_fn=dict(type='mmkd.padded_collate'),
    dataset=dict(type='mmkd.Curriculum', batch_size=batch_size, accumulate=accumulate),
)
train_cfg = dict(type='mmkd.StagedTrainLoop', accumulate=accumulate, val_interval=1000)
val_cfg = dict(type='mmkd.AnswerLoop', template=template)
test_cfg = dict(type='mmkd.AnswerTestLoop', template=template)
loader = dict(num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False))
val_dataloader = dict(loader, batch_size=32)
test_dataloader = dict(loader, batch_size=32)
val_evaluator = dict(type='mmkd.MultipleChoiceMetric')
test_evaluator = dict(type='mmkd.MultipleChoiceMetric')
custom_hooks = [
    dict(type='mmdistill.PreemptHook'),
    dict(type='mmkd.PackStatisticsHook'),
    dict(type='mmkd.PretrainedExportHook'),
]
