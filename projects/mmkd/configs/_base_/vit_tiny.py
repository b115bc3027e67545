# A ViT of six layers of width 128 on 64 patches of 32x32 images.
network = dict(
    type='mmkd.HFClassifier',
    task='image',
    family='vit',
    config=dict(
        image_size=32,
        patch_size=4,
        hidden_size=128,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=512,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    ),
    num_labels=10,
)
