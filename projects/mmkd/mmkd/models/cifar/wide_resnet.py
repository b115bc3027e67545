"""Wide ResNets (arXiv:1605.07146), their stages cut where features are activated.

In the paper the first block of a stage normalises and activates what the stage before it gives.
Where channels change, both branches see nothing else, so here these two layers, ``norm`` and
``act``, end the stage before. The function is the same, ``act`` gives the features after, ``norm``
those before activation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from mmkd.models.cifar.staged import (
    StagedNetwork,
    activated,
    convolution,
    start_convolutions,
)


class WideBlock(nn.Module):
    """Two 3x3 convolutions, each after normalisation and activation, and a shortcut.

    Args:
        inputs: channels.
        outputs: channels.
        stride: of the first convolution.
        activated_input: the stage before has already normalised and activated the input.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, activated_input: bool) -> None:
        super().__init__()
        given = [] if activated_input else [nn.BatchNorm2d(inputs), nn.ReLU()]
        self.enter = nn.Sequential(*given)
        self.body = nn.Sequential(
            *activated(inputs, outputs, stride=stride), convolution(outputs, outputs)
        )
        self.projection = None
        if inputs != outputs:
            self.projection = convolution(inputs, outputs, 1, stride=stride)

    def forward(self, features: Tensor) -> Tensor:
        """The next features ``(B, outputs, h, w)``, not activated."""
        entered = self.enter(features)
        shortcut = features if self.projection is None else self.projection(entered)
        return self.body(entered) + shortcut


def wide_resnet(num_classes: int, in_channels: int, depth: int, factor: int) -> StagedNetwork:
    """Three stages; the second and the third halve the size.

    Args:
        num_classes: outputs.
        in_channels: of the images.
        depth: layers, 6 n + 4 with n blocks in a stage.
        factor: of the widths 16, 32 and 64; the stem, a bare convolution, has 16 channels.
    """
    inputs, stages = 16, []
    for number, width in enumerate((16 * factor, 32 * factor, 64 * factor)):
        stage = nn.Sequential(WideBlock(inputs, width, min(number, 1) + 1, number > 0))
        for _ in range((depth - 4) // 6 - 1):
            stage.append(WideBlock(width, width, 1, False))
        stage.add_module('norm', nn.BatchNorm2d(width))
        stage.add_module('act', nn.ReLU())
        stages.append(stage)
        inputs = width
    stem = nn.Sequential(convolution(in_channels, 16))
    network = StagedNetwork(stem, stages, inputs, num_classes)
    start_convolutions(network)
    nn.init.zeros_(network.head.bias)
    return network


WIDE_RESNETS: dict[str, Callable[[int, int], StagedNetwork]] = {
    f'wrn_{depth}_{factor}': partial(wide_resnet, depth=depth, factor=factor)
    for depth in (16, 40)
    for factor in (1, 2)
}
"""Makers of networks from classes and channels, by name."""
