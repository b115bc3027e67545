"""VGG with batch normalisation and one linear layer (arXiv:1409.1556).

The first block is the stem, so that images of 32 x 32 have features of 32, 16, 8, 4 and 4 pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from mmkd.models.cifar.staged import StagedNetwork, activated, start_convolutions, start_head

WIDTHS = (64, 128, 256, 512, 512)


def _block(inputs: int, width: int, count: int) -> list[nn.Module]:
    """Convolutions of 3x3, normalised and activated."""
    sizes = [inputs] + [width] * (count - 1)
    return [layer for size in sizes for layer in activated(size, width, bias=True)]


def vgg(num_classes: int, in_channels: int, counts: tuple[int, ...]) -> StagedNetwork:
    """A stem and four stages; all stages but the last start with a pool that halves the size.

    Args:
        num_classes: outputs.
        in_channels: of the images.
        counts: convolutions of the stem and of each stage.
    """
    stem = nn.Sequential(*_block(in_channels, WIDTHS[0], counts[0]))
    stages = []
    for number in range(1, len(WIDTHS)):
        pool = [] if number == len(WIDTHS) - 1 else [nn.MaxPool2d(2)]
        layers = _block(WIDTHS[number - 1], WIDTHS[number], counts[number])
        stages.append(nn.Sequential(*pool, *layers))
    network = StagedNetwork(stem, stages, WIDTHS[-1], num_classes)
    start_convolutions(network)
    start_head(network)
    return network


VGGS: dict[str, Callable[[int, int], StagedNetwork]] = {
    'vgg8': partial(vgg, counts=(1, 1, 1, 1, 1)),
    'vgg11': partial(vgg, counts=(1, 1, 2, 2, 2)),
    'vgg13': partial(vgg, counts=(2, 2, 2, 2, 2)),
    'vgg16': partial(vgg, counts=(2, 2, 3, 3, 3)),
    'vgg19': partial(vgg, counts=(2, 2, 4, 4, 4)),
}
"""Makers of networks from classes and channels, by name."""
