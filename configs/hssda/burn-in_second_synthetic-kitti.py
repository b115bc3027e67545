# Supervised training from scratch on the labelled frames: where every other run starts.
_base_ = ['./supervised_second_synthetic-kitti.py']
load_from = None
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(optimizer=dict(lr=0.008))
param_scheduler = [
    dict(type='OneCycleLR', eta_max=0.008, total_steps=900, pct_start=0.3, by_epoch=False)
]
train_cfg = dict(max_iters=900, val_interval=900)
auto_scale_lr = dict(base_batch_size=2)
