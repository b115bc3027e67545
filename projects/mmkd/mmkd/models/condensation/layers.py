"""What the networks of the literature on dataset condensation share.

No layer works in place, and weights start as PyTorch's layers do.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from mmdistill.core.errors import UserError, did_you_mean
from mmkd.models.timm_classifier import Classified

NORMS = ('batch', 'instance', 'group', 'layer', 'none')
"""Kinds of normalisation."""
GROUPS = 4
LARGE = 64
"""Side in pixels from which on images are large."""


def norm_layer(kind: str, channels: int, size: tuple[int, int]) -> nn.Module:
    """A normalisation with a scale and a shift.

    Args:
        kind: ``'batch'``; ``'instance'``, each channel of each sample (one group per channel, so
            no running statistics); ``'group'``, a quarter of the channels; ``'layer'``, all of a
            sample, with a scale and a shift per value; ``'none'``, nothing.
        channels: C of the features.
        size: height and width of the features.

    Raises:
        UserError: an unknown kind, or channels that do not make groups.
    """
    if kind == 'group' and channels % GROUPS:
        raise UserError(f"norm 'group' needs a multiple of {GROUPS} channels, got {channels}")
    match kind:
        case 'batch':
            return nn.BatchNorm2d(channels)
        case 'instance':
            return nn.GroupNorm(channels, channels)
        case 'group':
            return nn.GroupNorm(GROUPS, channels)
        case 'layer':
            return nn.LayerNorm((channels, *size))
        case 'none':
            return nn.Identity()
    raise UserError(
        f'norm {kind!r} is unknown{did_you_mean(str(kind), NORMS)}; known: {list(NORMS)}'
    )


class Layers:
    """Makes layers one after the other and follows the shape of what they give.

    The least image follows from the layers: n pixels of a feature depend on ``(n - 1) step +
    reach`` pixels of the image that are not padding.

    Args:
        name: of the network, for messages.
        in_channels: of the images.
        image_size: height and width of the images.

    Attributes:
        channels: of the last layer's output.
        size: height and width of the last layer's output.
        margin: pixels by which a first convolution pads one-channel images of 28 x 28 on all sides
            in addition, so that they are like those of 32 x 32; 0 for all others.
        entry_stride: of a first convolution that halves large images, else 1.
    """

    def __init__(self, name: str, in_channels: int, image_size: tuple[int, int]) -> None:
        self.name = name
        self.in_channels, self.image_size = in_channels, image_size
        self.channels, self.size = in_channels, image_size
        self.margin = 2 if (in_channels, *image_size) == (1, 28, 28) else 0
        self.entry_stride = 2 if min(image_size) >= LARGE else 1
        self._step = self._reach = self._least = 1
        self._too_small = False

    def conv(
        self,
        outputs: int,
        kernel: int = 3,
        padding: int = 1,
        stride: int = 1,
        bias: bool = True,
        margin: int = 0,
    ) -> nn.Conv2d:
        """A convolution.

        Args:
            outputs: channels.
            kernel: side in pixels.
            padding: in pixels.
            stride: in pixels.
            bias: adds one.
            margin: more padding, which counts as a part of the image.
        """
        inputs, self.channels = self.channels, outputs
        self.size = tuple(side + 2 * margin for side in self.size)
        self._moved(kernel, padding, stride)
        return nn.Conv2d(inputs, outputs, kernel, stride, padding + margin, bias=bias)

    def pool(self, kind: type[nn.Module] = nn.MaxPool2d) -> nn.Module:
        """Halves the size and rounds down.

        Args:
            kind: of the pool.
        """
        self._moved(2, 0, 2)
        return kind(2)

    def norm(self, kind: str) -> nn.Module:
        """See :func:`norm_layer`; where it is of each channel alone, one pixel is not enough."""
        if kind == 'instance':
            self._needs(2, self.size == (1, 1))
        return norm_layer(kind, self.channels, self.size)

    def linear(self, outputs: int) -> nn.Linear:
        """A linear layer of all values of the features."""
        height, width = self.size
        return nn.Linear(self.channels * height * width, outputs)

    def check(self) -> None:
        """Refuses images that the layers so far reduce to nothing.

        Raises:
            UserError: the image is too small.
        """
        if self._too_small:
            height, width = self.image_size
            raise UserError(
                f'image_size {height} x {width} is too small for {self.name} as configured: it '
                f'needs {self._least} x {self._least} or more'
            )

    def _moved(self, kernel: int, padding: int, stride: int) -> None:
        """Follows a window."""
        sides = [(side + 2 * padding - kernel) // stride + 1 for side in self.size]
        self._reach += (kernel - 2 * padding - 1) * self._step
        self._step *= stride
        self._needs(1, min(sides) < 1)
        self.size = tuple(max(side, 1) for side in sides)

    def _needs(self, pixels: int, missing: bool) -> None:
        """Notes that the side of the features has to be of so many pixels."""
        self._least = max(self._least, (pixels - 1) * self._step + self._reach)
        self._too_small |= missing


class CondensationNetwork(nn.Module):
    """A classifier of images of one size, whose modules run in their order.

    Args:
        layers: that made the parts; the image is checked against them.
        parts: modules by name, from images to logits.

    Raises:
        UserError: images are too small for the network.
    """

    def __init__(self, layers: Layers, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        layers.check()
        self.image_shape = (layers.in_channels, *layers.image_size)
        for name, part in parts.items():
            self.add_module(name, part)
        self.order = tuple(parts)

    def forward(self, pixel_values: Tensor) -> Classified:
        """Logits of images ``(B, in_channels, H, W)``.

        Raises:
            UserError: images of another shape.
        """
        if pixel_values.dim() != 4 or pixel_values.shape[1:] != self.image_shape:
            channels, height, width = self.image_shape
            raise UserError(
                f'pixel_values must be (B, {channels}, {height}, {width}), got '
                f'{tuple(pixel_values.shape)}: in_channels and image_size of the network are those '
                'of the images'
            )
        features = pixel_values
        for name in self.order:
            features = getattr(self, name)(features)
        return Classified(features)
