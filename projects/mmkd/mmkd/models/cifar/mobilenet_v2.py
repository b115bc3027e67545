"""MobileNetV2 of half width for small images (arXiv:1801.04381).

As in the literature on distillation, activations are ReLU, every block has an expansion, also the
first one with factor 1, and the 1x1 convolution ``last`` keeps its 1280 channels. The blocks'
outputs are linear, so those of the stages are not activated.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from mmkd.models.cifar.staged import (
    Residual,
    StagedNetwork,
    activated,
    normed,
    start_convolutions,
    start_head,
)

STAGES = (
    ((1, 16, 1, 1), (6, 24, 2, 1)),
    ((6, 32, 3, 2),),
    ((6, 64, 4, 2), (6, 96, 3, 1)),
    ((6, 160, 3, 2), (6, 320, 1, 1)),
)
"""By stage: expansion, channels at full width, blocks and stride."""
LAST = 1280


def _block(inputs: int, outputs: int, stride: int, expansion: int) -> nn.Module:
    """1x1 to more channels, 3x3 in each, 1x1 to fewer; a shortcut where the shape stays."""
    inner = inputs * expansion
    body = nn.Sequential(
        *activated(inputs, inner, 1),
        *activated(inner, inner, stride=stride, groups=inner),
        *normed(inner, outputs, 1),
    )
    if stride == 1 and inputs == outputs:
        return Residual(body, nn.Identity(), nn.Identity())
    return body


def mobilenet_v2(num_classes: int, in_channels: int) -> StagedNetwork:
    """A stem that halves the size and four stages, of which all but the first do.

    Args:
        num_classes: outputs.
        in_channels: of the images.
    """
    stem = nn.Sequential(*activated(in_channels, 16, stride=2))
    inputs, stages = 16, []
    for rows in STAGES:
        blocks = []
        for expansion, width, count, stride in rows:
            for number in range(count):
                step = stride if number == 0 else 1
                blocks.append(_block(inputs, width // 2, step, expansion))
                inputs = width // 2
        stages.append(nn.Sequential(*blocks))
    last = nn.Sequential(*activated(inputs, LAST, 1))
    network = StagedNetwork(stem, stages, LAST, num_classes, last)
    start_convolutions(network)
    start_head(network)
    return network


MOBILENETS: dict[str, Callable[[int, int], StagedNetwork]] = {'MobileNetV2': mobilenet_v2}
"""Makers of networks from classes and channels, by name."""
