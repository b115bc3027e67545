"""ShuffleNetV2 of width 1 for small images (arXiv:1807.11164).

As in the literature on distillation, weights start as PyTorch's layers do.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmkd.models.cifar.staged import ChannelShuffle, StagedNetwork, activated, normed

STEM, LAST = 24, 1024
WIDTHS, BLOCKS = (116, 232, 464), (4, 8, 4)


def _branch(inputs: int, width: int, stride: int) -> nn.Sequential:
    """1x1, 3x3 in each channel and 1x1."""
    return nn.Sequential(
        *activated(inputs, width, 1),
        *normed(width, width, stride=stride, groups=width),
        *activated(width, width, 1),
    )


class SplitBlock(nn.Module):
    """Layers for one half of the channels; the other stays, and all are shuffled.

    Args:
        width: channels, even.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = _branch(width // 2, width // 2, stride=1)
        self.shuffle = ChannelShuffle(2)

    def forward(self, features: Tensor) -> Tensor:
        """The next features, of the same shape."""
        kept, given = features.chunk(2, dim=1)
        return self.shuffle(torch.cat([kept, self.branch(given)], 1))


class HalvingBlock(nn.Module):
    """Halves the size in two branches that see all channels and give half of the outputs each.

    Args:
        inputs: channels.
        outputs: channels, even.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.short = nn.Sequential(
            *normed(inputs, inputs, stride=2, groups=inputs), *activated(inputs, half, 1)
        )
        self.branch = _branch(inputs, half, stride=2)
        self.shuffle = ChannelShuffle(2)

    def forward(self, features: Tensor) -> Tensor:
        """The next features, ``(B, outputs, h / 2, w / 2)``."""
        return self.shuffle(torch.cat([self.short(features), self.branch(features)], 1))


def shufflenet_v2(num_classes: int, in_channels: int) -> StagedNetwork:
    """A 1x1 stem, three stages that halve the size and a 1x1 convolution, ``last``.

    Args:
        num_classes: outputs.
        in_channels: of the images.
    """
    inputs, stages = STEM, []
    for width, count in zip(WIDTHS, BLOCKS, strict=True):
        kept = [SplitBlock(width) for _ in range(count - 1)]
        stages.append(nn.Sequential(HalvingBlock(inputs, width), *kept))
        inputs = width
    stem = nn.Sequential(*activated(in_channels, STEM, 1))
    last = nn.Sequential(*activated(inputs, LAST, 1))
    return StagedNetwork(stem, stages, LAST, num_classes, last)


SHUFFLENETS_V2: dict[str, Callable[[int, int], StagedNetwork]] = {'ShuffleNetV2': shufflenet_v2}
"""Makers of networks from classes and channels, by name."""
