# A BERT of six layers of width 256, for sentences of the small data sets.
network = dict(
    type='mmkd.HFClassifier',
    task='text',
    family='bert',
    config=dict(
        vocab_size=8000,
        hidden_size=256,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=1024,
        max_position_embeddings=64,
    ),
    num_labels=2,
)
