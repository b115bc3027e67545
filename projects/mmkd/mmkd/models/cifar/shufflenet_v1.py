"""ShuffleNet with three groups for small images (arXiv:1707.01083).

As in the literature on distillation, the 3x3 convolutions of the blocks are activated, and weights
start as PyTorch's layers do.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmkd.models.cifar.staged import (
    ChannelShuffle,
    Residual,
    StagedNetwork,
    activated,
    normed,
)

GROUPS = 3
STEM = 24
WIDTHS, BLOCKS = (240, 480, 960), (4, 8, 4)


def _body(inputs: int, inner: int, outputs: int, stride: int) -> nn.Sequential:
    """1x1 in groups, a shuffle, 3x3 in each channel and 1x1 in groups."""
    groups = 1 if inputs == STEM else GROUPS
    return nn.Sequential(
        *activated(inputs, inner, 1, groups=groups),
        ChannelShuffle(groups),
        *activated(inner, inner, stride=stride, groups=inner),
        *normed(inner, outputs, 1, groups=GROUPS),
    )


class HalvingBlock(nn.Module):
    """Halves the size; the input's mean over 3x3 pixels is appended to what the layers give.

    Args:
        inputs: channels.
        outputs: channels, those of the mean among them.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        made = outputs - inputs
        self.body = _body(inputs, made // 4, made, stride=2)
        self.shortcut = nn.AvgPool2d(3, stride=2, padding=1)
        self.act = nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        """The next features, ``(B, outputs, h / 2, w / 2)``."""
        return self.act(torch.cat([self.body(features), self.shortcut(features)], 1))


def shufflenet_v1(num_classes: int, in_channels: int) -> StagedNetwork:
    """A 1x1 stem and three stages that halve the size.

    Args:
        num_classes: outputs.
        in_channels: of the images.
    """
    inputs, stages = STEM, []
    for width, count in zip(WIDTHS, BLOCKS, strict=True):
        stage = nn.Sequential(HalvingBlock(inputs, width))
        for _ in range(count - 1):
            body = _body(width, width // 4, width, stride=1)
            stage.append(Residual(body, nn.Identity(), nn.ReLU()))
        stages.append(stage)
        inputs = width
    stem = nn.Sequential(*activated(in_channels, STEM, 1))
    return StagedNetwork(stem, stages, inputs, num_classes)


SHUFFLENETS_V1: dict[str, Callable[[int, int], StagedNetwork]] = {'ShuffleNetV1': shufflenet_v1}
"""Makers of networks from classes and channels, by name."""
