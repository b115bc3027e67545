# Eight iterations of FST with real and virtual steps, four checkpoints: does everything run?
_base_ = ['./fst-d_resnet-tiny_streets.py']
crop_size = (64, 64)
model = dict(
    segmentor=dict(data_preprocessor=dict(size=crop_size)),
    pseudo=dict(threshold=0.05),
    depth=2,
    draws='redraw',
    keep=0.9,
)
source_pipeline = [dict(each) for each in _base_.source_pipeline]
source_pipeline[2].update(crop_size=crop_size)
target_pipeline = [dict(each) for each in _base_.target_pipeline]
target_pipeline[1].update(crop_size=crop_size)
source = dict(_base_.source, dataset=dict(_base_.source.dataset, pipeline=source_pipeline))
target = dict(_base_.target, dataset=dict(_base_.target.dataset, pipeline=target_pipeline))
train_dataloader = dict(
    batch_size=4, sampler=dict(batch_size=4), dataset=dict(datasets=[source, target])
)
custom_hooks = [
    dict(type='mmdistill.PreemptHook'),
    dict(type='mmdistill.UnsupWeightRampHook', begin=2, ramp_iters=3, shape='linear'),
    dict(type='mmdistill.PseudoQualityHook', interval=2),
]
param_scheduler = [dict(type='LinearLR', start_factor=0.1, begin=0, end=4, by_epoch=False)]
train_cfg = dict(max_iters=8, val_interval=4)
default_hooks = dict(checkpoint=dict(interval=2, max_keep_ckpts=3), logger=dict(interval=1))
