# FST-W: three virtual students side by side, each on 2 + 2 crops of its own.
_base_ = ['./fst-d_daformer-mit-b5_1xb2-40k_gta2cityscapes-512x512.py']
model = dict(policy='official_w', depth=1, width=3, virtual_data='fresh')
train_dataloader = dict(batch_size=16, sampler=dict(batch_size=16))
auto_scale_lr = dict(base_batch_size=16)
