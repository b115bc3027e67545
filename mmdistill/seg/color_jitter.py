"""Brightness, contrast, saturation and hue of RGB batches, each image with its own factors.

Two definitions are in use. DACS, DAFormer and FST call kornia's ``ColorJitter`` of versions up to
0.5, whose brightness is a shift, whose contrast is a product and whose saturation is that of HSV:
``hsv``. torchvision, PIL and later versions of kornia blend with black, with the mean grey level
and with the grey image: ``blend``. Hue is the same turn in HSV in both. HSV is never built; with
``v`` the largest and ``m`` the smallest channel of a pixel, an HSV saturation times ``f`` is

    x' = v - (v - x) min(f, v / (v - m))
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mmdistill.core.errors import UserError

DEFINITIONS = ('hsv', 'blend')
_GREY = (0.2989, 0.587, 0.114)


def _grey(images: Tensor) -> Tensor:
    """(B, 1, H, W) luma of ITU-R BT.601, the weights of torchvision."""
    return sum(w * images[:, i : i + 1] for i, w in enumerate(_GREY))


def _shift(images: Tensor, factor: Tensor) -> Tensor:
    """``x + f - 1`` in [0, 1]."""
    return (images + (factor - 1)).clamp_(0, 1)


def _scale(images: Tensor, factor: Tensor) -> Tensor:
    """``f x`` in [0, 1]."""
    return (images * factor).clamp_(0, 1)


def _hsv_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """The saturation of HSV times ``f``, at most 1."""
    most = images.amax(1, keepdim=True)
    chroma = most - images.amin(1, keepdim=True)
    limit = most / chroma.clamp_(min=torch.finfo(images.dtype).tiny)
    return most - (most - images).mul_(torch.minimum(factor, limit))


def _blend_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """``f x + (1 - f) g`` in [0, 1] with the mean grey level ``g`` of the image."""
    level = _grey(images).mean((1, 2, 3), keepdim=True)
    return (images * factor).add_((1 - factor) * level).clamp_(0, 1)


def _blend_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """``f x + (1 - f) g`` in [0, 1] with the grey image ``g``."""
    return (images * factor).add_((1 - factor) * _grey(images)).clamp_(0, 1)


def _turn_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Turns the hue of HSV by a share of the circle.

    The channel ``n`` of a colour with hue ``h`` in sixths of the circle is
    ``v - (v - m) clamp(min(k, 4 - k), 0, 1)`` where ``k = (n + h) mod 6`` and n = 5, 3, 1.
    """
    red, green, blue = images.unbind(1)
    most = images.amax(1)
    chroma = most - images.amin(1)
    safe = chroma.clamp(min=torch.finfo(images.dtype).tiny)
    hue = torch.where(most == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    hue = torch.where(most == red, (green - blue) / safe, hue)[:, None]
    channel = torch.arange(5, 0, -2, device=images.device).view(1, 3, 1, 1)
    place = (channel + (hue + 6 * turn)).remainder_(6)
    share = torch.minimum(place, 4 - place).clamp_(0, 1)
    return most[:, None] - share.mul_(chroma[:, None])


_STEPS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], ...]] = {
    'hsv': (_shift, _scale, _hsv_saturation, _turn_hue),
    'blend': (_scale, _blend_contrast, _blend_saturation, _turn_hue),
}


def color_jitter(
    images: Tensor,
    factors: Tensor,
    order: Sequence[int] = (0, 1, 2, 3),
    definition: str = 'hsv',
) -> Tensor:
    """Changes the colours of a batch.

    Args:
        images: (B, 3, H, W) RGB in [0, 1], single or double precision; not changed.
        factors: (B, 4) brightness, contrast, saturation (1 changes nothing) and hue in turns of
            the circle (0 changes nothing).
        order: which of the four comes first, second, ...; those left out are not done.
        definition: ``hsv`` or ``blend``, see above.

    Returns:
        (B, 3, H, W) of the same precision.

    Raises:
        UserError: an unknown definition.
        ValueError: images without three channels, or factors of another shape.
    """
    if definition not in DEFINITIONS:
        raise UserError(
            f'definition of the colour jitter must be one of {DEFINITIONS}, got {definition!r}'
        )
    if images.dim() != 4 or images.shape[1] != 3 or factors.shape != (len(images), 4):
        raise ValueError(
            f'colours of (B, 3, H, W) with (B, 4) factors, got {tuple(images.shape)} and '
            f'{tuple(factors.shape)}'
        )
    steps = _STEPS[definition]
    for index in order:
        images = steps[index](images, factors[:, index].to(images.dtype).view(-1, 1, 1, 1))
    return images
