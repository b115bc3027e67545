# A ViT of four layers of width 96 on 16 patches of 32x32 images.
network = dict(
    type='mmkd.HFClassifier',
    task='image',
    family='vit',
    config=dict(
        image_size=32,
        patch_size=8,
        hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=3,
        intermediate_size=384,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    ),
    num_labels=10,
)
