"""The perceptron of dataset condensation, which sees pixels without their places."""

from __future__ import annotations

from torch import nn

from mmkd.models.condensation.layers import CondensationNetwork, Layers


def mlp(layers: Layers, num_classes: int, width: int) -> CondensationNetwork:
    """Two hidden linear layers and a linear head.

    Args:
        layers: of the images.
        num_classes: outputs.
        width: of the hidden layers.
    """
    parts = dict(
        flatten=nn.Flatten(),
        hidden=nn.Sequential(layers.linear(width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()),
        head=nn.Linear(width, num_classes),
    )
    return CondensationNetwork(layers, parts)
