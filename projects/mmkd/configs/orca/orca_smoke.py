# Eight steps of a tiny student in two stages: does everything run?
_base_ = ['./orca_llama-tiny_world.py']
batch_size = 2
accumulate = 2
model = dict(
    language_model=dict(
        config=dict(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
    )
)
small = dict(type='mmkd.WorldPacks', cap=256)
train_dataloader = dict(
    batch_size=batch_size,
    dataset=dict(
        batch_size=batch_size,
        accumulate=accumulate,
        stages=[
            dict(
                name='intermediate', dataset=dict(small, persona='intermediate', count=30), epochs=2
            ),
            dict(name='strong', dataset=dict(small, persona='strong', count=25, stage=1), epochs=2),
        ],
    ),
)
train_cfg = dict(accumulate=accumulate, val_interval=4)
val_dataloader = dict(batch_size=6, dataset=dict(count=6))
val_cfg = dict(max_new_tokens=8)
test_dataloader = dict(batch_size=6, dataset=dict(count=6))
test_cfg = dict(max_new_tokens=8)
default_hooks = dict(checkpoint=dict(interval=2, max_keep_ckpts=3), logger=dict(interval=1))
