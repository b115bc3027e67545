"""ResNets for small images (arXiv:1512.03385): thin ones with three stages, wide ones with four.

A stage's output is activated; what its last block's ``act`` is given is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

from mmkd.models.cifar.staged import (
    Residual,
    StagedNetwork,
    activated,
    normed,
    start_convolutions,
)

Block = Callable[[int, int, int], Residual]


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Nothing, or a projection where the shape changes."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(*normed(inputs, outputs, 1, stride=stride))


def basic_block(inputs: int, outputs: int, stride: int) -> Residual:
    """Two 3x3 convolutions, with a projection beside them where the shape changes.

    Args:
        inputs: channels.
        outputs: channels.
        stride: of the first convolution.
    """
    body = nn.Sequential(*activated(inputs, outputs, stride=stride), *normed(outputs, outputs))
    return Residual(body, _shortcut(inputs, outputs, stride), nn.ReLU())


def bottleneck(inputs: int, outputs: int, stride: int) -> Residual:
    """A 3x3 convolution of a quarter of the outputs between two 1x1 ones.

    Args:
        inputs: channels.
        outputs: channels, a multiple of 4.
        stride: of the 3x3 convolution.
    """
    inner = outputs // 4
    body = nn.Sequential(
        *activated(inputs, inner, 1),
        *activated(inner, inner, stride=stride),
        *normed(inner, outputs, 1),
    )
    return Residual(body, _shortcut(inputs, outputs, stride), nn.ReLU())


def resnet(
    num_classes: int,
    in_channels: int,
    blocks: Sequence[int],
    stem: int,
    widths: Sequence[int],
    block: Block = basic_block,
) -> StagedNetwork:
    """A ResNet with a 3x3 stem; every stage but the first halves the size.

    Args:
        num_classes: outputs.
        in_channels: of the images.
        blocks: how many each stage has.
        stem: its channels.
        widths: channels of the stages' outputs.
        block: of inputs, outputs and stride.
    """
    inputs, stages = stem, []
    for number, (count, width) in enumerate(zip(blocks, widths, strict=True)):
        strides = [1 if number == 0 else 2] + [1] * (count - 1)
        sizes = [inputs] + [width] * (count - 1)
        made = [block(size, width, stride) for size, stride in zip(sizes, strides, strict=True)]
        stages.append(nn.Sequential(*made))
        inputs = width
    first = nn.Sequential(*activated(in_channels, stem))
    network = StagedNetwork(first, stages, inputs, num_classes)
    start_convolutions(network)
    return network


def _thin(depth: int, factor: int) -> Callable[[int, int], StagedNetwork]:
    """A maker of three stages; four times as wide also in the stem, which is twice as wide."""
    count = (depth - 2) // 6
    widths, stem = [width * factor for width in (16, 32, 64)], 16 if factor == 1 else 32
    return partial(resnet, blocks=[count] * 3, stem=stem, widths=widths)


_FOUR = dict(stem=64, widths=(64, 128, 256, 512))
RESNETS: dict[str, Callable[[int, int], StagedNetwork]] = {
    **{f'resnet{depth}': _thin(depth, 1) for depth in (8, 14, 20, 32, 44, 56, 110)},
    **{f'resnet{depth}x4': _thin(depth, 4) for depth in (8, 32)},
    'ResNet18': partial(resnet, blocks=(2, 2, 2, 2), **_FOUR),
    'ResNet34': partial(resnet, blocks=(3, 4, 6, 3), **_FOUR),
    'ResNet50': partial(
        resnet, blocks=(3, 4, 6, 3), stem=64, widths=(256, 512, 1024, 2048), block=bottleneck
    ),
}
"""Makers of networks from classes and channels, by name."""
