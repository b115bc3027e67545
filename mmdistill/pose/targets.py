"""Heatmap targets drawn on the device, as mmpose's codecs draw them one joint at a time.

A joint at the heatmap coordinate ``u`` (:mod:`mmdistill.pose.heatmaps`) has its box around the
pixel ``m = trunc(u + 1/2)``, from ``trunc(m - 3 sigma)`` to ``trunc(m + 3 sigma + 1)`` exclusive:

==================  ==================================================================
codec (1.3.2)       value at pixel ``p``
==================  ==================================================================
MSRA                ``exp(-|p - m|^2 / (2 sigma^2))`` in the box
MSRA, ``unbiased``  ``exp(-|p - u|^2 / (2 sigma^2))`` everywhere
UDP                 ``exp(-|p - u|^2 / (2 sigma^2))`` in the box
==================  ==================================================================

Where the box misses the map the weight is 0, and a joint with a weight below 1/2 has an empty
map but keeps its weight. Both are habits of the codecs, and so is the truncation: numpy's
``astype`` goes towards zero, which for negative coordinates is not the floor.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmdistill.core.errors import UserError
from mmdistill.pose.heatmaps import HeatmapGrid


@torch.no_grad()
def gaussian_targets(
    points: Tensor,
    weights: Tensor,
    grid: HeatmapGrid,
    sigma: float = 2.0,
    unbiased: bool = False,
) -> tuple[Tensor, Tensor]:
    """Draws the targets of a batch, without a loop and without waiting for the device.

    Args:
        points: (B, K, 2) joints in input pixels. Infinite and NaN ones miss the map.
        weights: (B, K) visibilities, numbers or bool; joints below 1/2 are not drawn.
        grid: where heatmap pixels lie; UDP's convention draws as ``UDPHeatmap`` does.
        sigma: standard deviation in heatmap pixels.
        unbiased: draw the exact Gaussian everywhere, as unbiased ``MSRAHeatmap`` does.

    Returns:
        (B, K, h, w) heatmaps in the points' type (half precision becomes float32) and (B, K)
        weights of the same type, 0 where the box misses the map.

    Raises:
        ValueError: shapes that do not fit together.
    """
    if points.dim() != 3 or points.shape[-1] != 2 or weights.shape != points.shape[:2]:
        raise ValueError(
            f'points are (B, K, 2) and weights (B, K), got {tuple(points.shape)} and '
            f'{tuple(weights.shape)}'
        )
    dtype = torch.promote_types(points.dtype, torch.float32)
    weights = weights.to(dtype)
    place = grid.to_heatmap(points.to(dtype))
    radius = 3 * sigma
    middle = (place + 0.5).trunc()
    first, last = place - radius, place + radius + 1
    if not unbiased:
        first, last = (middle - radius).trunc(), (middle + radius + 1).trunc()
    hits = weights >= 0.5
    factors = []
    for axis, length in enumerate(grid.heatmap_size):
        low, high = first[..., axis], last[..., axis]
        hits = hits & (low < length) & (high >= 0)
        pixel = torch.arange(length, device=points.device, dtype=dtype)
        if unbiased:
            step = pixel - place[..., axis, None]
        else:
            # numpy's kernel is counted from its own corner, which a broken radius moves
            step = pixel - low[..., None] - (2 * radius + 1) // 2
            if grid.convention == 'udp':
                step = step - (place - middle)[..., axis, None]
        factor = (-(step**2) / (2 * sigma**2)).exp()
        if not unbiased:
            factor = factor * ((pixel >= low[..., None]) & (pixel < high[..., None]))
        factors.append(factor)
    heatmaps = factors[1][..., :, None] * factors[0][..., None, :]
    heatmaps = heatmaps.masked_fill(~hits[..., None, None], 0)
    return heatmaps, weights.masked_fill((weights >= 0.5) & ~hits, 0)


@dataclass(frozen=True)
class TargetMaker:
    """The numbers that targets are drawn with.

    Attributes:
        grid: the pixel grids of input and heatmap.
        sigma: standard deviation in heatmap pixels.
        unbiased: see :func:`gaussian_targets`.

    Raises:
        UserError: a sigma that is not positive.
    """

    grid: HeatmapGrid
    sigma: float = 2.0
    unbiased: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.sigma < float('inf'):
            raise UserError(f'sigma must be a positive number, got {self.sigma!r}')

    @classmethod
    def from_codec(cls, codec: Any) -> 'TargetMaker':
        """Draws what an mmpose codec draws.

        Args:
            codec: a built ``MSRAHeatmap``, or ``UDPHeatmap`` of the type ``gaussian``.

        Raises:
            UserError: another codec.
        """
        grid = HeatmapGrid.from_codec(codec)
        return cls(grid, float(codec.sigma), bool(getattr(codec, 'unbiased', False)))

    def __call__(self, points: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Heatmaps and weights, see :func:`gaussian_targets`."""
        return gaussian_targets(points, weights, self.grid, self.sigma, self.unbiased)
