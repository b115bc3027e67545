# Eight segments of two tiny experts: does everything run? First: experts_tiny_digits.py.
_base_ = ['./datm_convnet_digits-ipc1.py']
experts = 'work_dirs/experts_tiny_digits/trajectories'
network = dict(width=4, depth=1)
model = dict(
    experts=experts,
    network=network,
    steps=2,
    batch=6,
    augment=dict(_delete_=True, type='mmkd.DSA', families='crop_scale_rotate'),
)
train_dataloader = dict(
    dataset=dict(experts=experts, iterations=8, lower=0, upper=1, upper_max=None, length=1)
)
train_cfg = dict(max_iters=8, val_interval=4)
default_hooks = dict(checkpoint=dict(interval=2, max_keep_ckpts=3), logger=dict(interval=1))
val_cfg = dict(epochs=2, runs=1)
test_cfg = dict(epochs=2, full_epochs=1, runs=1)
