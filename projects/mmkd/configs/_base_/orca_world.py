# Students from scratch on procedural problems, whose teachers solve and explain them; nothing is
# downloaded or collected.
_base_ = ['./language.py']
seed = 0
batch_size = 4
accumulate = 1
cap = 256
model = dict(
    language_model=dict(
        config=dict(
            model_type='llama',
            vocab_size=387,
            hidden_size=256,
            intermediate_size=768,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
    ),
    attention='sdpa',
)
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.01))
# two kinds of problems, free answers, system messages that ask for every step
world = dict(families=('arithmetic', 'counting'), choices=0.0, system_ids=(5, 6))
packs = dict(type='mmkd.WorldPacks', cap=cap, seed=seed, **world)
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=1,
    dataset=dict(batch_size=batch_size, accumulate=accumulate),
)
train_cfg = dict(accumulate=accumulate)
tokenizer = dict(type='mmkd.WorldTokenizer')
questions = dict(type='mmkd.WorldQueries', seed=seed, **world)
val_dataloader = dict(batch_size=100, dataset=dict(questions, name='dev', count=100))
val_cfg = dict(tokenizer=tokenizer, max_new_tokens=128)
test_dataloader = dict(
    batch_size=100,
    dataset=dict(questions, name='test+test_longer+test_wording+test_family', count=200),
)
test_cfg = dict(tokenizer=tokenizer, max_new_tokens=192)
custom_hooks = [
    dict(type='mmdistill.PreemptHook'),
    dict(type='mmkd.PackStatisticsHook'),
    dict(type='mmkd.PretrainedExportHook', tokenizer=tokenizer),
]
