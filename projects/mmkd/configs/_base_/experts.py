# Training of experts by FTD's steps. Any number of jobs may run one config: they share the work.
_base_ = ['./runtime.py']
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
train_dataloader = dict(batch_size=256, num_workers=0, sampler=dict(type='DefaultSampler'))
train_cfg = dict(type='mmkd.ExpertTrainLoop', experts=100, epochs=100, rho=0.01, alpha=0.3)
val_cfg = None
test_cfg = None
custom_hooks = []
