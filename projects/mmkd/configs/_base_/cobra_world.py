# Tiny students from scratch on a neutral world of frames; nothing is downloaded or collected.
_base_ = ['./cobra.py']
seed = 0
batch_size = 32
epochs = 8
model = dict(
    _delete_=True,
    type='mmkd.Seq2SeqStudent',
    language_model=dict(
        config=dict(
            model_type='t5',
            vocab_size=448,
            d_model=96,
            d_kv=24,
            d_ff=256,
            num_layers=3,
            num_heads=4,
            feed_forward_proj='gated-gelu',
            dropout_rate=0.0,
            eos_token_id=2,
            tie_word_embeddings=True,
        )
    ),
)
optim_wrapper = dict(optimizer=dict(lr=2e-3, weight_decay=0.01))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, end=50),
    dict(
        type='CosineAnnealingLR',
        eta_min=2e-5,
        by_epoch=True,
        convert_to_iter_based=True,
        end=epochs,
    ),
]
explained = dict(
    _delete_=True,
    type='mmkd.CobraFrameDataset',
    template='tokens',
    tokenizer=dict(type='mmkd.FrameWorldTokenizer'),
)
world = dict(type='mmkd.WorldFrames', seed=seed)
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=1,
    sampler=dict(batch_size=batch_size, seed=seed),
    dataset=dict(explained, frames=dict(world, split='train', count=4000), seed=seed),
)
train_cfg = dict(max_epochs=epochs, accumulate=1, val_interval=4)
val_dataloader = dict(
    batch_size=100,
    dataset=dict(explained, frames=dict(world, split='dev', kind='pairs', count=50)),
)
test_dataloader = dict(
    batch_size=100,
    dataset=dict(explained, frames=dict(world, split='test', kind='pairs', count=150)),
)
val_cfg = dict(subset=None, max_new_tokens=80)
test_cfg = dict(max_new_tokens=80, decoding=None)
val_evaluator = dict(labels='label_majority')
