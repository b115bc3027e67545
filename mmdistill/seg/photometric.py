"""The strong photometric view of a normalised batch: colour jitter, then Gaussian blur.

The published code of DACS (arXiv:2007.08702), DAFormer (arXiv:2111.14887) and FST
(arXiv:2209.06993) decides once per batch whether to jitter (probability 0.8) and whether to blur
(0.5), and draws strengths per image. Labels and weights have no part in it.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdistill.core.errors import UserError
from mmdistill.registry import TASK_UTILS
from mmdistill.seg.color_jitter import DEFINITIONS, color_jitter


def blur_kernel_size(length: int) -> int:
    """Taps of the blur along an axis of so many pixels: odd, about a tenth (512: 51, 640: 63)."""
    tenth = math.ceil(0.1 * length)
    return math.floor(tenth - 0.5 + tenth % 2)


def gaussian_blur(
    images: Tensor, sigma: Tensor, kernel_size: tuple[int, int], sigma_max: float | None = None
) -> Tensor:
    """Separable Gaussian blur with reflected borders, each image with its own width.

    Args:
        images: (B, C, H, W) in single or double precision.
        sigma: (B,) standard deviations in pixels.
        kernel_size: odd taps along H and W.
        sigma_max: no sigma is larger. Taps beyond six of it are left out: together they weigh
            less than single precision can tell from 1.

    Returns:
        (B, C, H, W) of the same precision.

    Raises:
        ValueError: an even number of taps.
    """
    if any(taps % 2 == 0 for taps in kernel_size):
        raise ValueError(f'a blur has an odd number of taps, got {tuple(kernel_size)}')
    batch, channels, height, width = images.shape
    blurred = images.reshape(1, batch * channels, height, width)
    with torch.autocast(images.device.type, enabled=False):
        for axis, taps in enumerate(kernel_size):
            reach = taps // 2
            if sigma_max is not None:
                reach = min(reach, math.ceil(6 * sigma_max))
            step = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
            weight = torch.exp(-0.5 * (step / sigma.to(images.dtype)[:, None]) ** 2)
            weight = weight / weight.sum(1, keepdim=True)
            weight = weight.repeat_interleave(channels, 0)[:, None]
            weight = weight[..., None] if axis == 0 else weight[:, :, None]
            pad = (0, 0, reach, reach) if axis == 0 else (reach, reach, 0, 0)
            blurred = F.conv2d(F.pad(blurred, pad, mode='reflect'), weight, groups=batch * channels)
    return blurred.view_as(images)


@dataclass(frozen=True)
class PhotometricNumbers:
    """What was drawn for a batch.

    Attributes:
        jitter: change the colours.
        blur: blur.
        order: order of brightness (0), contrast (1), saturation (2) and hue (3).
        uniform: (B, 5) numbers in [0, 1): the four factors and the width of the blur.
    """

    jitter: bool
    blur: bool
    order: tuple[int, ...]
    uniform: Tensor


@TASK_UTILS.register_module()
class StrongPhotometric:
    """Draws and applies colour jitter and blur.

    Args:
        strength: factors of brightness, contrast and saturation lie in 1 +- strength, the turn of
            the hue in +- strength; at most 0.5.
        jitter_probability: share of the batches with colour jitter.
        blur_probability: share of the batches with blur.
        sigma: lowest and highest standard deviation of the blur in pixels.
        definition: of the colour jitter, see :mod:`mmdistill.seg.color_jitter`.

    Raises:
        UserError: a value out of range.
    """

    def __init__(
        self,
        strength: float = 0.2,
        jitter_probability: float = 0.8,
        blur_probability: float = 0.5,
        sigma: tuple[float, float] = (0.15, 1.15),
        definition: str = 'hsv',
    ) -> None:
        if not 0 <= strength <= 0.5:
            raise UserError(f'strength of StrongPhotometric must lie in [0, 0.5], got {strength}')
        for name, share in (('jitter', jitter_probability), ('blur', blur_probability)):
            if not 0 <= share <= 1:
                raise UserError(
                    f'{name}_probability of StrongPhotometric must lie in [0, 1], got {share}'
                )
        if not (isinstance(sigma, (list, tuple)) and len(sigma) == 2 and 0 < sigma[0] <= sigma[1]):
            raise UserError(
                f'sigma of StrongPhotometric must be an increasing positive pair, got {sigma}'
            )
        if definition not in DEFINITIONS:
            raise UserError(
                f'definition of StrongPhotometric must be one of {DEFINITIONS}, got {definition!r}'
            )
        self.strength = strength
        self.jitter_probability = jitter_probability
        self.blur_probability = blur_probability
        self.sigma = tuple(sigma)
        self.definition = definition

    def numbers(
        self,
        batch: int,
        device: torch.device | str = 'cpu',
        generator: torch.Generator | None = None,
    ) -> PhotometricNumbers:
        """Draws on the CPU, so that skipping a step needs no word from the device.

        Args:
            batch: number of images.
            device: where the strengths go.
            generator: of the CPU.
        """
        jitter, blur = torch.rand(2, generator=generator).tolist()
        order = tuple(torch.randperm(4, generator=generator).tolist())
        uniform = torch.rand(batch, 5, generator=generator).to(device, non_blocking=True)
        return PhotometricNumbers(
            jitter < self.jitter_probability, blur < self.blur_probability, order, uniform
        )

    @torch.no_grad()
    def __call__(
        self,
        images: Tensor,
        mean: Tensor,
        std: Tensor,
        numbers: PhotometricNumbers | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Changes a batch.

        Args:
            images: (B, 3, H, W) normalised RGB, ``(x - mean) / std`` with x in [0, 255]; not
                changed. Half precision is computed in float32.
            mean: 3 numbers on the same device, as the ``mean`` of mmseg's preprocessor.
            std: likewise.
            numbers: see :meth:`numbers`; drawn when left out.
            generator: where they are drawn from, of the CPU.

        Returns:
            (B, 3, H, W) of the same precision without gradient; where neither step was drawn, it
            shares its memory with the images.
        """
        if numbers is None:
            numbers = self.numbers(len(images), images.device, generator)
        changed = images.to(torch.promote_types(images.dtype, torch.float32))
        uniform = numbers.uniform.to(changed.dtype)
        if numbers.jitter:
            factors = (2 * uniform[:, :4] - 1) * self.strength
            factors = factors + (torch.arange(4, device=images.device) < 3)
            mean, std = (each.to(changed.dtype).view(3, 1, 1) / 255 for each in (mean, std))
            changed = color_jitter(changed * std + mean, factors, numbers.order, self.definition)
            changed = (changed - mean) / std
        if numbers.blur:
            low, high = self.sigma
            sizes = tuple(blur_kernel_size(length) for length in images.shape[-2:])
            sigma = low + (high - low) * uniform[:, 4]
            changed = gaussian_blur(changed, sigma, sizes, high)
        return changed.to(images.dtype).detach()
