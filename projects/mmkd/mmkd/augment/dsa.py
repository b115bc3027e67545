"""Differentiable siamese augmentation (DSA, arXiv:2102.08259) of batches, from recorded numbers.

What is done to a batch is a pure function of the images and of a :class:`Record`; the same record
gives the same images and gradients again, also for a part of the batch. (On a GPU gradients of
``scale`` and ``rotate`` are sums in no fixed order and repeat up to rounding.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdistill.core.errors import UserError, did_you_mean
from mmkd.registry import TASK_UTILS


@dataclass(frozen=True, eq=False)
class Record:
    """What is done to every sample of a batch of B.

    Attributes:
        family: name, the same for all samples.
        values: arguments of the family's function, ``(B,)`` each.
    """

    family: str
    values: Mapping[str, Tensor]

    def rows(self, part: slice | Tensor) -> Record:
        """The record of a part of the batch: a slice, or a tensor of indices."""
        return Record(self.family, {name: each[part] for name, each in self.values.items()})

    def to(self, device: torch.device | str) -> Record:
        """The record on a device."""
        return Record(self.family, {name: each.to(device) for name, each in self.values.items()})


def color(images: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    """Brightness, then saturation, then contrast.

    Args:
        images: ``(B, C, H, W)``.
        brightness: is added, ``(B,)``.
        saturation: factor of the distance from the mean over channels; an image of one channel
            stays as it is.
        contrast: factor of the distance from the mean over all pixels and channels.
    """
    brightness, saturation, contrast = (
        each.to(images.dtype).view(-1, 1, 1, 1) for each in (brightness, saturation, contrast)
    )
    images = images + brightness
    grey = images.mean(1, keepdim=True)
    images = (images - grey) * saturation + grey
    level = images.mean((1, 2, 3), keepdim=True)
    return (images - level) * contrast + level


def crop(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """The window is moved by whole pixels; what lies outside of the image is 0.

    Args:
        images: ``(B, C, H, W)``.
        down: rows that the window moves, integers ``(B,)``.
        right: columns, alike.
    """
    return _moved(_moved(images, down, 2), right, 3)


def _moved(images: Tensor, by: Tensor, dim: int) -> Tensor:
    """Pixel i is pixel ``i + by`` along a dimension."""
    side = images.shape[dim]
    shape = [len(images), 1, 1, 1]
    shape[dim] = side
    source = (torch.arange(side, device=images.device) + by[:, None]).view(shape)
    found = images.gather(dim, source.clamp(0, side - 1).expand_as(images))
    return found.masked_fill((source < 0) | (source >= side), 0)


def cutout(images: Tensor, top: Tensor, bottom: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """A rectangle is set to 0.

    Args:
        images: ``(B, C, H, W)``.
        top: first row ``(B,)``; may lie outside of the image, as all of these.
        bottom: row after the last.
        left: first column.
        right: column after the last.
    """
    inside = []
    for first, end, side in zip((top, left), (bottom, right), images.shape[2:], strict=True):
        at = torch.arange(side, device=images.device)
        inside.append((at >= first[:, None]) & (at < end[:, None]))
    rows, columns = inside
    return images.masked_fill(rows[:, None, :, None] & columns[:, None, None, :], 0)


def flip(images: Tensor, flipped: Tensor) -> Tensor:
    """Left and right change places.

    Args:
        images: ``(B, C, H, W)``.
        flipped: which samples, booleans ``(B,)``.
    """
    return torch.where(flipped.view(-1, 1, 1, 1), images.flip(3), images)


def scale(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """The image's middle stays; the window becomes larger or smaller along each side.

    Args:
        images: ``(B, C, H, W)``.
        down: height of the window in heights of the image, ``(B,)``; above 1 the image shrinks.
        right: width, alike.
    """
    zero = torch.zeros_like(down)
    return _sampled(images, right, zero, zero, down)


def rotate(images: Tensor, angle: Tensor) -> Tensor:
    """The image turns about its middle.

    Args:
        images: ``(B, C, H, W)``; both sides count as 2 long, whatever their pixels.
        angle: in radians, ``(B,)``; positive is anticlockwise.
    """
    angle = angle.to(images.dtype)
    return _sampled(images, angle.cos(), -angle.sin(), angle.sin(), angle.cos())


def _sampled(images: Tensor, xx: Tensor, xy: Tensor, yx: Tensor, yy: Tensor) -> Tensor:
    """Bilinear values at ``(xx x + xy y, yx x + yy y)``, 0 outside; corners are at -1 and 1."""
    xx, xy, yx, yy = (each.to(images.dtype).view(-1, 1, 1) for each in (xx, xy, yx, yy))
    height, width = images.shape[2:]
    about = dict(dtype=images.dtype, device=images.device)
    y, x = torch.linspace(-1, 1, height, **about)[:, None], torch.linspace(-1, 1, width, **about)
    grid = torch.stack([xx * x + xy * y, yx * x + yy * y], -1)
    return F.grid_sample(images, grid, 'bilinear', 'zeros', align_corners=True)


FAMILIES: Mapping[str, Callable[..., Tensor]] = MappingProxyType(
    dict(color=color, crop=crop, cutout=cutout, flip=flip, scale=scale, rotate=rotate)
)
_RANGES = dict(
    **dict.fromkeys(('brightness', 'saturation', 'contrast'), (0, math.inf)),
    **dict.fromkeys(('crop', 'cutout', 'flip'), (0, 1)),
    scale=(1, math.inf),
    rotate=(0, 180),
)


@TASK_UTILS.register_module()
@dataclass(frozen=True)
class DSA:
    """Draws one family for a batch, evenly, and numbers for every sample, and applies them.

    Images are differentiable through it. Strengths are those of the paper by default.

    Args:
        families: names of :data:`FAMILIES`, in a list or joined by ``_`` as in the literature. For
            digits and letters leave ``flip`` out.
        brightness: values are added from an interval of this length around 0.
        saturation: factors are from 0 to this.
        contrast: factors are from this to this plus 1.
        crop: moves of the window go up to this share of a side, rounded.
        cutout: side of the square that becomes 0, as a share of the image's.
        flip: probability.
        scale: windows are from 1 / this to this large, drawn for height and width.
        rotate: angles are from minus this to this, in degrees.
        siamese: all samples of a batch have the same numbers.

    Raises:
        UserError: an unknown family, none, one twice, or a strength out of range.
    """

    families: str | tuple[str, ...] = tuple(FAMILIES)
    brightness: float = 1.0
    saturation: float = 2.0
    contrast: float = 0.5
    crop: float = 0.125
    cutout: float = 0.5
    flip: float = 0.5
    scale: float = 1.2
    rotate: float = 15.0
    siamese: bool = False

    def __post_init__(self) -> None:
        given = self.families
        names = tuple(given.split('_') if isinstance(given, str) else given)
        for name in names:
            if name not in FAMILIES:
                raise UserError(
                    f'family {name!r} of DSA is not known{did_you_mean(name, FAMILIES)}; '
                    f'known: {", ".join(FAMILIES)}'
                )
        if not names or len(set(names)) < len(names):
            raise UserError(f'families of DSA must be at least one and each once, got {given!r}')
        object.__setattr__(self, 'families', names)
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and low <= value <= high):
                limit = f'from {low} to {high}' if math.isfinite(high) else f'at least {low}'
                raise UserError(f'{name} of DSA must be {limit}, got {value}')

    def draw(self, count: int, size: tuple[int, int], generator: torch.Generator) -> Record:
        """What to do to a batch.

        Args:
            count: samples B.
            size: height and width of the images.
            generator: of the CPU, so that a record is the same on every device.

        Returns:
            The record, on the CPU.
        """
        choice = int(torch.randint(len(self.families), (), generator=generator))
        family = self.families[choice]
        values = self._numbers(family, 1 if self.siamese else count, size, generator)
        return Record(family, {name: each.expand(count) for name, each in values.items()})

    def _numbers(
        self, family: str, count: int, size: tuple[int, int], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Arguments of a family's function."""

        def uniform(low: float, high: float) -> Tensor:
            drawn = torch.rand(count, generator=generator, dtype=torch.float32)
            return low + (high - low) * drawn

        def whole(low: int, high: int) -> Tensor:
            return torch.randint(low, high + 1, (count,), generator=generator)

        if family == 'color':
            return dict(
                brightness=uniform(-0.5 * self.brightness, 0.5 * self.brightness),
                saturation=uniform(0, self.saturation),
                contrast=uniform(self.contrast, self.contrast + 1),
            )
        if family == 'crop':
            down, right = (int(self.crop * side + 0.5) for side in size)
            return dict(down=whole(-down, down), right=whole(-right, right))
        if family == 'cutout':
            sides = [int(self.cutout * side + 0.5) for side in size]
            top, left = (
                # the middle of an even side lies between two pixels: there is one place more
                whole(0, side - length % 2) - length // 2
                for side, length in zip(size, sides, strict=True)
            )
            return dict(top=top, bottom=top + sides[0], left=left, right=left + sides[1])
        if family == 'flip':
            return dict(flipped=uniform(0, 1) < self.flip)
        if family == 'scale':
            low, high = 1 / self.scale, self.scale
            return dict(down=uniform(low, high), right=uniform(low, high))
        limit = math.radians(self.rotate)
        return dict(angle=uniform(-limit, limit))

    def __call__(self, images: Tensor, record: Record) -> Tensor:
        """Images as the record says.

        Args:
            images: ``(B, C, H, W)`` float.
            record: of B samples, on the images' device.

        Returns:
            New images of the same shape and type.
        """
        return FAMILIES[record.family](images, **record.values)
