# Frames of COBRA: a student reads a statement with its context and writes seven slots.
_base_ = ['./runtime.py']
seed = 0
batch_size = 16
accumulate = 2
template = 'qa'
tokenizer = 'google/flan-t5-base'
model = dict(type='mmkd.Seq2SeqStudent', language_model=dict(pretrained=tokenizer))
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.1),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=True, convert_to_iter_based=True, end=2)
]
frames = dict(
    type='mmkd.CobraFrameDataset',
    template=template,
    tokenizer=tokenizer,
    max_source=512,
    max_target=512,
)
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='mmkd.LengthGroupedSampler', batch_size=batch_size, seed=seed),
    collate_fn=dict(type='mmkd.seq2seq_collate'),
    dataset=dict(frames, frames='data/cobra/frames.parquet', split='train', seed=seed),
)
train_cfg = dict(type='mmkd.AccumulatingEpochLoop', max_epochs=2, accumulate=accumulate)
loader = dict(num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False))
val_dataloader = dict(
    loader, batch_size=16, dataset=dict(frames, frames='data/cobra/frames.parquet', split='val')
)
test_dataloader = dict(
    loader, batch_size=16, dataset=dict(frames, frames='data/cobra/pairs.parquet')
)
# greedy on some frames after each epoch, the published beam of four at the end
val_cfg = dict(type='mmkd.FrameLoop', subset=200)
test_cfg = dict(type='mmkd.FrameTestLoop', max_new_tokens=512, decoding=dict(num_beams=4))
val_evaluator = dict(type='mmkd.FrameMetric', labels='binarized')
test_evaluator = dict(type='mmkd.FrameMetric', labels='label_majority')
