# Adapters on queries and values of FLAN-T5 XL, in bfloat16, for one GPU (ours, not the paper's).
_base_ = ['./charm_flan-t5-xl.py']
model = dict(
    dtype='bfloat16',
    lora=dict(r=16, alpha=32, target_modules=('q', 'v')),
    gradient_checkpointing=True,
)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
