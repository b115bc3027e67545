"""The ConvNet of dataset condensation (arXiv:2006.05929): equal blocks that halve the size.

Networks for CIFAR have three blocks, those for Tiny ImageNet four (arXiv:2203.11932).
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from mmkd.models.condensation.layers import CondensationNetwork, Layers


def convnet(
    layers: Layers, num_classes: int, width: int, depth: int | None, norm: str
) -> CondensationNetwork:
    """Blocks ``block1`` ... of ``conv`` (3x3), ``norm``, ``act`` and ``pool``, and a linear head.

    Args:
        layers: of the images.
        num_classes: outputs.
        width: channels of all blocks.
        depth: blocks; None: three, and one more for each doubling of 32 pixels.
        norm: kind of normalisation.
    """
    if depth is None:
        depth = max(3, min(layers.image_size).bit_length() - 3)
    parts = {}
    for number in range(1, depth + 1):
        block = OrderedDict(
            conv=layers.conv(width, margin=layers.margin if number == 1 else 0),
            norm=layers.norm(norm),
            act=nn.ReLU(),
            pool=layers.pool(nn.AvgPool2d),
        )
        parts[f'block{number}'] = nn.Sequential(block)
    parts['flatten'] = nn.Flatten()
    parts['head'] = layers.linear(num_classes)
    return CondensationNetwork(layers, parts)
