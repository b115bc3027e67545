# The same through DeepSpeed (pip install deepspeed), optimizer and gradients shared among GPUs.
_base_ = ['./orca_llama-13b_5m-1m.py']
# its engine keeps its optimizer: rates and moments go on in the second stage
optim_wrapper = dict(
    _delete_=True, type='DeepSpeedOptimWrapper', optimizer=dict(type='AdamW', lr=2e-5)
)
train_cfg = dict(
    stages=[
        dict(name='flan-5m'),
        dict(name='flan-1m', reset_optimizer=False, reset_scheduler=False),
    ]
)
strategy = dict(
    _delete_=True,
    type='DeepSpeedStrategy',
    bf16=dict(enabled=True),
    gradient_clipping=1.0,
    gradient_accumulation_steps=_base_.accumulate,
    zero_optimization=dict(stage=2, overlap_comm=True),
)
