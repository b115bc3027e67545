# Runs in seconds, to see that everything fits together.
_base_ = ['./cobra_t5-tiny_world.py']
model = dict(language_model=dict(config=dict(d_model=32, d_kv=8, d_ff=64, num_layers=1)))
train_dataloader = dict(
    batch_size=8, sampler=dict(batch_size=8), dataset=dict(frames=dict(count=32))
)
train_cfg = dict(max_epochs=2, val_interval=1)
param_scheduler = [dict(type='ConstantLR', factor=1.0, by_epoch=False, end=1)]
val_dataloader = dict(batch_size=8, dataset=dict(frames=dict(count=4)))
test_dataloader = dict(batch_size=8, dataset=dict(frames=dict(count=4)))
val_cfg = dict(max_new_tokens=16)
test_cfg = dict(max_new_tokens=16)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2, max_keep_ckpts=3))
