# Distillation by matching trajectories: three learned tensors, each with a rate and momentum of its
# own; networks trained from scratch choose the best images. Ten thousand segments of two epochs.
_base_ = ['./runtime.py']
iterations = 10000
model = dict(
    type='mmkd.TrajectoryMatching',
    image_size=(32, 32),
    in_channels=3,
    num_classes=10,
    steps=80,
    inner_lr=0.01,
    augment=dict(type='mmkd.DSA'),
)
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=1.0),
    paramwise_cfg=dict(
        custom_keys=dict(
            images=dict(lr=100.0, momentum=0.5),
            label_logits=dict(lr=2.0, momentum=0.9),
            inner_lr=dict(lr=1e-5, momentum=0.5),
        )
    ),
)
segments = dict(type='mmkd.SegmentDataset', iterations=iterations, lower=0, length=2)
train_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='mmkd.InOrder'),
    collate_fn=dict(type='mmkd.single'),
    dataset=segments,
)
train_cfg = dict(type='mmdistill.IterTrainLoop', max_iters=iterations, val_interval=500)
default_hooks = dict(checkpoint=dict(interval=500))
loader = dict(batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False))
val_dataloader = dict(loader)
val_cfg = dict(type='mmkd.FromScratchLoop', runs=1, augment=dict(type='mmkd.DSA'))
val_evaluator = []
test_dataloader = dict(loader)
test_cfg = dict(
    type='mmkd.FromScratchTestLoop',
    runs=5,
    rows=('soft', 'hard', 'random', 'full'),
    augment=dict(type='mmkd.DSA'),
)
test_evaluator = []
custom_hooks = [
    dict(type='mmdistill.PreemptHook'),
    dict(type='mmkd.SyntheticExportHook'),
    dict(type='mmkd.TrajectoryHealthHook'),
]
