"""Small Transformers and batches."""

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
)

HEADS, LAYERS = 4, 3


def bert(labels=2, seed=0, **options):
    """BERT with three layers of width 32."""
    torch.manual_seed(seed)
    given = dict(vocab_size=50, hidden_size=32, num_hidden_layers=LAYERS, intermediate_size=64)
    given |= dict(num_attention_heads=HEADS, hidden_dropout_prob=0.0, num_labels=labels)
    given |= dict(attention_probs_dropout_prob=0.0, initializer_range=0.2)
    return BertForSequenceClassification(BertConfig(**{**given, **options}))


def vit(seed=0, **options):
    """ViT with two layers of width 32."""
    torch.manual_seed(seed)
    given = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    given |= dict(image_size=16, patch_size=4, num_labels=3, hidden_dropout_prob=0.0)
    given |= dict(attention_probs_dropout_prob=0.0, initializer_range=0.2)
    return ViTForImageClassification(ViTConfig(**{**given, **options}))


def sentences(count=4, length=7, seed=0):
    """Ids and mask; every other sentence is shorter."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 50, (count, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[1::2, length // 2 :] = 0
    return dict(input_ids=ids * mask, attention_mask=mask)


def images(count=4, seed=0):
    """Noise."""
    generator = torch.Generator().manual_seed(seed)
    return dict(pixel_values=torch.randn(count, 3, 16, 16, generator=generator))
