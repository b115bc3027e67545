"""ResNet18 for small images (arXiv:1512.03385) with a choice of normalisation."""

from __future__ import annotations

from torch import nn

from mmkd.models.cifar.staged import Residual
from mmkd.models.condensation.layers import CondensationNetwork, Layers, norm_layer

WIDTHS = (64, 128, 256, 512)


def _block(layers: Layers, width: int, stride: int, norm: str) -> Residual:
    """Two 3x3 convolutions, with a 1x1 one beside them where the shape changes."""
    inputs = layers.channels
    body = nn.Sequential(
        layers.conv(width, stride=stride, bias=False),
        layers.norm(norm),
        nn.ReLU(),
        layers.conv(width, bias=False),
        layers.norm(norm),
    )
    shortcut: nn.Module = nn.Identity()
    if stride > 1 or inputs != width:
        shortcut = nn.Sequential(
            nn.Conv2d(inputs, width, 1, stride, bias=False), norm_layer(norm, width, layers.size)
        )
    return Residual(body, shortcut, nn.ReLU())


def resnet18(layers: Layers, num_classes: int, norm: str) -> CondensationNetwork:
    """A 3x3 stem, four stages of two blocks, the mean over pixels and a linear head.

    Every stage but the first halves the size; the stem halves that of large images.

    Args:
        layers: of the images.
        num_classes: outputs.
        norm: kind of normalisation.
    """
    parts: dict[str, nn.Module] = dict(
        stem=nn.Sequential(
            layers.conv(WIDTHS[0], stride=layers.entry_stride, bias=False),
            layers.norm(norm),
            nn.ReLU(),
        )
    )
    for number, width in enumerate(WIDTHS, start=1):
        first = _block(layers, width, min(number, 2), norm)
        parts[f'stage{number}'] = nn.Sequential(first, _block(layers, width, 1, norm))
    parts['pool'] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    parts['head'] = nn.Linear(layers.channels, num_classes)
    return CondensationNetwork(layers, parts)
