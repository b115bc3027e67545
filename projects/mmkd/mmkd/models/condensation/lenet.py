"""LeNet with ReLU and maximum pools, as dataset condensation has it."""

from __future__ import annotations

from torch import nn

from mmkd.models.condensation.layers import CondensationNetwork, Layers


def lenet(layers: Layers, num_classes: int) -> CondensationNetwork:
    """Two blocks of a 5x5 convolution, two hidden linear layers and a linear head.

    Images of one channel are padded by two pixels; large ones are halved by the first convolution.

    Args:
        layers: of the images.
        num_classes: outputs.
    """
    padding = 2 if layers.in_channels == 1 else 0
    parts = dict(
        block1=nn.Sequential(
            layers.conv(6, 5, padding, layers.entry_stride), nn.ReLU(), layers.pool()
        ),
        block2=nn.Sequential(layers.conv(16, 5, 0), nn.ReLU(), layers.pool()),
        flatten=nn.Flatten(),
        hidden=nn.Sequential(layers.linear(120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU()),
        head=nn.Linear(84, num_classes),
    )
    return CondensationNetwork(layers, parts)
