"""What all networks for small images share: named stages, and layers that they are made of."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from mmdistill.core.errors import UserError
from mmkd.models.timm_classifier import Classified


class StagedNetwork(nn.Module):
    """A classifier whose modules are ``stem``, ``stage1`` ... ``stageN``, ``pool`` and ``head``.

    They run in this order, so the output of each is what the next one sees, and a feature is named
    alike in every network. No layer works in place: what a hook records stays as it is.

    Args:
        stem: from images to the input of the first stage.
        stages: in their order.
        width: channels that are pooled.
        num_classes: outputs of ``head``.
        last: between the last stage and the pool, a module of this name.
    """

    def __init__(
        self,
        stem: nn.Sequential,
        stages: Iterable[nn.Module],
        width: int,
        num_classes: int,
        last: nn.Module | None = None,
    ) -> None:
        super().__init__()
        named = {f'stage{number}': stage for number, stage in enumerate(stages, start=1)}
        extra = {} if last is None else {'last': last}
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        parts = {'stem': stem, **named, **extra, 'pool': pool}
        for name, part in parts.items():
            self.add_module(name, part)
        self.head = nn.Linear(width, num_classes)
        self.order = (*parts, 'head')
        first = next(each for each in stem.modules() if isinstance(each, nn.Conv2d))
        self.in_channels = first.in_channels

    def forward(self, pixel_values: Tensor) -> Classified:
        """Logits of images ``(B, in_channels, H, W)``.

        Raises:
            UserError: images with another number of channels.
        """
        if pixel_values.dim() != 4 or pixel_values.shape[1] != self.in_channels:
            raise UserError(
                f'pixel_values must be (B, {self.in_channels}, H, W), got '
                f'{tuple(pixel_values.shape)}: in_channels of the network is that of the images'
            )
        features = pixel_values
        for name in self.order:
            features = getattr(self, name)(features)
        return Classified(features)


class Residual(nn.Module):
    """``act(body(x) + shortcut(x))``; what ``act`` is given is the feature before activation.

    Args:
        body: the layers.
        shortcut: to the shape of its output.
        act: of the sum.
    """

    def __init__(self, body: nn.Module, shortcut: nn.Module, act: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut, self.act = body, shortcut, act

    def forward(self, features: Tensor) -> Tensor:
        """The next features, ``(B, C, h, w)``."""
        return self.act(self.body(features) + self.shortcut(features))


class ChannelShuffle(nn.Module):
    """Channel ``i`` of group ``g`` becomes the ``g``-th of place ``i`` (arXiv:1707.01083).

    Args:
        groups: that divide the channels.
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, features: Tensor) -> Tensor:
        """The channels of ``(B, C, h, w)`` in another order."""
        return features.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)

    def extra_repr(self) -> str:
        """How many groups."""
        return f'groups={self.groups}'


def convolution(
    inputs: int,
    outputs: int,
    kernel: int = 3,
    stride: int = 1,
    groups: int = 1,
    bias: bool = False,
) -> nn.Conv2d:
    """A convolution that keeps the size, or divides it by its stride and rounds up.

    Args:
        inputs: channels.
        outputs: channels.
        kernel: side in pixels, odd.
        stride: in pixels.
        groups: of channels.
        bias: adds one.
    """
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias)


def normed(inputs: int, outputs: int, kernel: int = 3, **options: int) -> list[nn.Module]:
    """A convolution and batch normalisation; options as for :func:`convolution`."""
    return [convolution(inputs, outputs, kernel, **options), nn.BatchNorm2d(outputs)]


def activated(inputs: int, outputs: int, kernel: int = 3, **options: int) -> list[nn.Module]:
    """A convolution, batch normalisation and ReLU; options as for :func:`convolution`."""
    return [*normed(inputs, outputs, kernel, **options), nn.ReLU()]


def start_convolutions(network: nn.Module) -> None:
    """Kaiming's normal values by the outputs for all convolutions, zero biases, in place."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def start_head(network: StagedNetwork) -> None:
    """Weights of deviation 0.01 and no bias for the head, in place."""
    nn.init.normal_(network.head.weight, std=0.01)
    nn.init.zeros_(network.head.bias)
