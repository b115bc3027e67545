# The same with adapters of rank 32, one epoch each, on one GPU or with data parallelism.
_base_ = ['./orca_llama-13b_5m-1m.py']
model = dict(lora=dict(r=32, alpha=16, target_modules=['q_proj', 'k_proj', 'v_proj', 'o_proj']))
optim_wrapper = dict(optimizer=dict(lr=2e-4))
train_dataloader = dict(dataset=dict(stages={{_base_.train_dataloader.dataset.stages}}))
train_cfg = dict(
    stages=[dict(name='flan-5m'), dict(name='flan-1m', optimizer=dict(lr=1e-4))],
)
custom_hooks = [
    dict(type='mmdistill.PreemptHook'),
    dict(type='mmkd.PackStatisticsHook'),
    dict(type='mmkd.PretrainedExportHook', tokenizer=_base_.pretrained),
]
runner_type = 'Runner'
strategy = None
