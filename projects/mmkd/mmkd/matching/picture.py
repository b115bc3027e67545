"""Synthetic images as one picture."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WIDEST = 2.5
"""Standard deviations that a picture shows; what is beyond is black or white."""


def grid(images: Tensor, per_class: int, most: int = 10, scale: int = 1, gap: int = 1) -> Tensor:
    """Images class after class, one row per class.

    Args:
        images: ``(C per_class, channels, H, W)`` with 1 or 3 channels, any range.
        per_class: images of a class, which follow one another.
        most: images of a class that are shown.
        scale: pixels of the picture per pixel, along each side.
        gap: white pixels between images.

    Returns:
        ``(rows, columns, 3)`` bytes.
    """
    images = images.detach().cpu().double()
    channels, height, width = images.shape[1:]
    shown = min(most, per_class)
    images = images.view(-1, per_class, channels, height, width)[:, :shown]
    classes = len(images)
    # per channel over all images, so that images can be compared with one another
    dims = (0, 1, 3, 4)
    mean = images.nanmean(dims, keepdim=True)
    std = (images - mean).square().nanmean(dims, keepdim=True).sqrt().clamp(min=1e-12)
    light = ((images - mean) / (2 * WIDEST * std) + 0.5).nan_to_num(0.0).clamp(0, 1)
    light = light.expand(-1, -1, 3, -1, -1).reshape(-1, 3, height, width)
    light = F.interpolate(light, scale_factor=scale, mode='nearest')
    light = F.pad(light, (0, gap, 0, gap), value=1.0)
    tall, wide = light.shape[-2:]
    light = light.view(classes, shown, 3, tall, wide).permute(0, 3, 1, 4, 2)
    return (255 * light.reshape(classes * tall, shown * wide, 3)).round().to(torch.uint8)
