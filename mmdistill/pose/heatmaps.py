"""Heatmaps of a codec: where their pixels lie in the input.

Pixel ``i`` of any map has its centre at the coordinate ``i``. A codec says at which heatmap
coordinate ``u`` a joint at the input coordinate ``x`` is drawn (mmpose 1.3.2, input ``W`` wide,
heatmap ``w`` wide; the same along y):

===========  ===========================  ====================================================
convention   u of x                       who uses it
===========  ===========================  ====================================================
msra         ``x w / W``                  ``MSRAHeatmap`` (no half-pixel term)
udp          ``x (w - 1) / (W - 1)``      ``UDPHeatmap``
half_pixel   ``(x + 1/2) w / W - 1/2``    no codec; what one normalised affine grid with
                                          ``align_corners=False`` for image and heatmap assumes
===========  ===========================  ====================================================

Two habits of mmpose beside this: the biased ``MSRAHeatmap`` draws its Gaussian at
``trunc(u + 1/2)``, up to half a heatmap pixel beside ``u``; ``UDPHeatmap.decode`` answers
``u W / (w - 1)``, because mmpose's heads divide by ``W`` on the way to the original image. Here
``to_input`` is the exact inverse of the encoding, ``u (W - 1) / (w - 1)``.
"""

from dataclasses import dataclass
from typing import Any

import torch
from mmpose.codecs import MSRAHeatmap, UDPHeatmap
from torch import Tensor

from mmdistill.core.errors import UserError

CONVENTIONS = ('msra', 'udp', 'half_pixel')
REFINEMENTS = ('none', 'quarter', 'dark', 'dark_udp')


@dataclass(frozen=True)
class HeatmapGrid:
    """The pixel grids of input and heatmap, ``u = scale x + offset`` per axis.

    Attributes:
        input_size: (W, H) in input pixels.
        heatmap_size: (w, h) in heatmap pixels.
        convention: ``msra``, ``udp`` or ``half_pixel``, see the module's docstring.
        refinement: how :func:`mmdistill.pose.peaks.decode` goes below one pixel, as mmpose's
            codecs do: ``none``, ``quarter`` (biased MSRA), ``dark`` (unbiased MSRA) or
            ``dark_udp`` (UDP).
        blur_kernel_size: odd size of the Gaussian kernel of ``dark`` and ``dark_udp`` in
            heatmap pixels.

    Raises:
        UserError: an unknown name, or a size that has no scale.
    """

    input_size: tuple[int, int]
    heatmap_size: tuple[int, int]
    convention: str = 'msra'
    refinement: str = 'quarter'
    blur_kernel_size: int = 11

    def __post_init__(self) -> None:
        for name, known in (('convention', CONVENTIONS), ('refinement', REFINEMENTS)):
            if getattr(self, name) not in known:
                raise UserError(f'{name} must be one of {known}, got {getattr(self, name)!r}')
        for name in ('input_size', 'heatmap_size'):
            size = tuple(int(each) for each in getattr(self, name))
            if len(size) != 2 or min(size) < 2:
                raise UserError(f'{name} must be two sizes of at least 2 pixels, got {size}')
            object.__setattr__(self, name, size)
        if self.blur_kernel_size % 2 != 1:
            raise UserError(f'blur_kernel_size must be odd, got {self.blur_kernel_size}')

    @classmethod
    def from_codec(cls, codec: Any) -> 'HeatmapGrid':
        """The grids of an mmpose codec.

        Args:
            codec: a built ``MSRAHeatmap``, or ``UDPHeatmap`` of the type ``gaussian``.

        Raises:
            UserError: another codec.
        """
        kind = type(codec).__name__
        if isinstance(codec, MSRAHeatmap):
            convention, refinement = 'msra', 'dark' if codec.unbiased else 'quarter'
        elif isinstance(codec, UDPHeatmap) and codec.heatmap_type == 'gaussian':
            convention, refinement = 'udp', 'dark_udp'
        else:
            kind += f' ({codec.heatmap_type})' if isinstance(codec, UDPHeatmap) else ''
            raise UserError(
                f'codec {kind} has no plain heatmaps: use MSRAHeatmap, or UDPHeatmap with '
                "heatmap_type='gaussian'"
            )
        return cls(
            tuple(codec.input_size),
            tuple(codec.heatmap_size),
            convention,
            refinement,
            int(codec.blur_kernel_size),
        )

    @property
    def scale(self) -> tuple[float, float]:
        """Heatmap pixels per input pixel along x and y."""
        less = 1 if self.convention == 'udp' else 0
        pairs = zip(self.heatmap_size, self.input_size, strict=True)
        return tuple((small - less) / (large - less) for small, large in pairs)

    @property
    def offset(self) -> tuple[float, float]:
        """Heatmap coordinates of the input's origin."""
        if self.convention != 'half_pixel':
            return 0.0, 0.0
        return tuple(scale / 2 - 0.5 for scale in self.scale)

    @property
    def center(self) -> tuple[float, float]:
        """Where mmpose's ``TopdownAffine`` puts the middle of the box, in input pixels.

        (W / 2, H / 2) for MSRA and ((W - 1) / 2, (H - 1) / 2) for UDP; in heatmap pixels (w / 2,
        h / 2) and ((w - 1) / 2, (h - 1) / 2), so a reflection about it is exact on both maps.
        """
        less = 0 if self.convention == 'msra' else 1
        return tuple((size - less) / 2 for size in self.input_size)

    def to_heatmap(self, points: Tensor) -> Tensor:
        """(..., 2) points in input pixels -> heatmap pixels."""
        (sx, sy), (ox, oy) = self.scale, self.offset
        return torch.stack([points[..., 0] * sx + ox, points[..., 1] * sy + oy], -1)

    def to_input(self, points: Tensor) -> Tensor:
        """(..., 2) points in heatmap pixels -> input pixels."""
        (sx, sy), (ox, oy) = self.scale, self.offset
        return torch.stack([(points[..., 0] - ox) / sx, (points[..., 1] - oy) / sy], -1)

    def contains(self, points: Tensor) -> Tensor:
        """(...) bool: the pixel nearest to a (..., 2) point in heatmap pixels is on the map."""
        x, y = points.unbind(-1)
        width, height = self.heatmap_size
        return (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)
