"""Equal vision transformers of Hugging Face and timm."""

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from transformers import ViTConfig, ViTForImageClassification

from mmkd.models.timm_classifier import TimmNetwork

LAYERS = 2
WIDTH = 32
NAMES = {
    'vit.embeddings.cls_token': 'model.cls_token',
    'vit.embeddings.position_embeddings': 'model.pos_embed',
    'vit.embeddings.patch_embeddings.projection': 'model.patch_embed.proj',
    'vit.layernorm': 'model.norm',
    'classifier': 'model.head',
}
WITHIN = dict(layernorm_before='norm1', layernorm_after='norm2')
WITHIN |= {'attention.o_proj': 'attn.proj', 'mlp.fc1': 'mlp.fc1', 'mlp.fc2': 'mlp.fc2'}


def theirs(seed=0, **options):
    """ViT of Hugging Face with two layers of width 32; biases and norms are drawn too.

    All is in double precision, where no activation is so near between two steps of its grid that
    the order of a sum decides.
    """
    given = dict(hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=4)
    given |= dict(intermediate_size=64, image_size=16, patch_size=4, num_labels=3)
    given |= dict(layer_norm_eps=1e-6, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    made = ViTForImageClassification(ViTConfig(**{**given, **options}))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for each in made.parameters():
            each.add_(0.2 * torch.randn(each.shape, generator=generator))
    return made.double()


def small(seed=0, **options):
    """A network of timm of the same size."""
    torch.manual_seed(seed)
    given = dict(img_size=16, patch_size=4, embed_dim=WIDTH, depth=LAYERS, num_heads=4)
    given |= dict(mlp_ratio=2.0, num_classes=3)
    return TimmNetwork(VisionTransformer(**{**given, **options})).double()


def packed(state):
    """What is named as in Hugging Face, named and packed as in timm; what is None counts as 0."""
    found, ends = {}, ['.weight', '.bias']
    for name, own in NAMES.items():
        for end in [''] if name.endswith(('token', 'position_embeddings')) else ends:
            found[own + end] = state[name + end]
    for layer in range(LAYERS):
        below, above = f'model.blocks.{layer}.', f'vit.layers.{layer}.'
        for end in ends:
            for name, own in WITHIN.items():
                found[below + own + end] = state[above + name + end]
            trio = [state[f'{above}attention.{kind}_proj{end}'] for kind in 'qkv']
            trio = [torch.zeros_like(trio[0]) if each is None else each for each in trio]
            found[f'{below}attn.qkv{end}'] = torch.cat(trio)
    return found


def equal(network: nn.Module) -> TimmNetwork:
    """The network of timm with the weights of one of Hugging Face."""
    made = small()
    made.load_state_dict(packed(network.state_dict()))
    return made


def images(count=3, seed=0):
    """Noise."""
    generator = torch.Generator().manual_seed(seed)
    return dict(pixel_values=torch.randn(count, 3, 16, 16, generator=generator).double())
