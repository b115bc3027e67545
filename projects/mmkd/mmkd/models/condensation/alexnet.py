"""AlexNet without normalisation for small images, as dataset condensation has it."""

from __future__ import annotations

from torch import nn

from mmkd.models.condensation.layers import CondensationNetwork, Layers


def alexnet(layers: Layers, num_classes: int) -> CondensationNetwork:
    """Five convolutions in three blocks that halve the size, and a linear head.

    Images of one channel get two more pixels of padding; large ones are halved by the first
    convolution.

    Args:
        layers: of the images.
        num_classes: outputs.
    """
    padding = 4 if layers.in_channels == 1 else 2
    parts = dict(
        block1=nn.Sequential(
            layers.conv(128, 5, padding, layers.entry_stride), nn.ReLU(), layers.pool()
        ),
        block2=nn.Sequential(layers.conv(192, 5, 2), nn.ReLU(), layers.pool()),
        block3=nn.Sequential(
            layers.conv(256),
            nn.ReLU(),
            layers.conv(192),
            nn.ReLU(),
            layers.conv(192),
            nn.ReLU(),
            layers.pool(),
        ),
        flatten=nn.Flatten(),
        head=layers.linear(num_classes),
    )
    return CondensationNetwork(layers, parts)
