# Eight iterations in two phases, checkpoints after every second: does everything run?
_base_ = ['../_base_/runtime.py', '../_base_/sst2.py', '../_base_/bert_tiny.py']
network = dict(
    _base_.network,
    config=dict(
        vocab_size=200,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    ),
)
model = dict(
    type='mmkd.TeacherIntervention',
    teacher=network,
    schedule='stochastic',
    intervention_steps=4,
    weights=dict(labels=1.0),
)
tokenizer = dict(corpus='train.tsv', vocab_size=200)
train_dataloader = dict(batch_size=4, dataset=dict(tokenizer=tokenizer))
val_dataloader = dict(dataset=dict(tokenizer=tokenizer))
test_dataloader = val_dataloader
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3))
param_scheduler = [dict(type='LinearLR', start_factor=0.1, begin=0, end=3, by_epoch=False)]
train_cfg = dict(
    type='mmkd.TwoStepTrainLoop',
    max_iters=8,
    val_interval=4,
    first_iters=4,
    second_scheduler=[dict(type='LinearLR', start_factor=0.2, begin=0, end=2, by_epoch=False)],
)
default_hooks = dict(checkpoint=dict(interval=2, max_keep_ckpts=3), logger=dict(interval=1))
custom_hooks = [dict(type='mmdistill.PreemptHook'), dict(type='mmkd.InterventionHook')]
# values have no gradient while outputs are replaced
find_unused_parameters = True
