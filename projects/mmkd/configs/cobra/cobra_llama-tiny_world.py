# A decoder alone: it reads a statement with its context and goes on with the explanation.
_base_ = ['../_base_/cobra_world.py']
model = dict(
    _delete_=True,
    type='mmkd.CausalStudent',
    language_model=dict(
        config=dict(
            model_type='llama',
            vocab_size=448,
            hidden_size=96,
            intermediate_size=256,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
    ),
    attention='sdpa',
)
train_dataloader = dict(
    collate_fn=dict(_delete_=True, type='mmkd.unpacked_collate'), dataset=dict(decoder_only=True)
)
val_dataloader = dict(dataset=dict(decoder_only=True))
test_dataloader = dict(dataset=dict(decoder_only=True))
