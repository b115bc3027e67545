# A BERT of four layers of width 128, for sentences of the small data sets.
network = dict(
    type='mmkd.HFClassifier',
    task='text',
    family='bert',
    config=dict(
        vocab_size=8000,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=64,
    ),
    num_labels=2,
)
