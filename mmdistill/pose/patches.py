"""Patches of images are mixed with patches of other images, in one gather and one scatter.

All reads come from the unmixed images. Where patches overlap, the last one that can supply the
pixel wins. A patch cannot supply a pixel whose source lies outside the donor image, unless a
``fill`` is given, which then stands in for it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Patches:
    """M patches per sample, whole pixels.

    Attributes:
        target: (B, M, 2) centres x, y in the image that is changed.
        source: (B, M, 2) centres x, y in the donor image.
        donor: (B, M) index of the image that is read.
        half: (B, M, 2) half sizes; a patch is ``2 half + 1`` pixels wide and high.
        weight: (B, M) share of the source, 0 leaves the image as it is, 1 pastes.
        active: (B, M) bool.
        reach: no half size is larger.
    """

    target: Tensor
    source: Tensor
    donor: Tensor
    half: Tensor
    weight: Tensor
    active: Tensor
    reach: int


@torch.no_grad()
def mix_patches(images: Tensor, patches: Patches, fill: float | None = None) -> Tensor:
    """Mixes patches into images, ``X'(p) = (1 - w) X(p) + w X_donor(s + p - d)``.

    Args:
        images: (B, C, H, W) floats, normalised; not changed.
        patches: where, from where and how much.
        fill: value of source pixels outside the donor image; None leaves the pixels that would
            need them alone.

    Returns:
        (B, C, H, W) without gradient.

    Raises:
        ValueError: images of whole numbers.
    """
    if not images.is_floating_point():
        raise ValueError(f'Keypoint-Mix works on normalised float images, got {images.dtype}')
    batch, channels, height, width = images.shape
    count = patches.active.shape[1]
    steps = torch.arange(-patches.reach, patches.reach + 1, device=images.device)
    rows = torch.arange(batch, device=images.device)[:, None]
    later = torch.arange(count, device=images.device)
    later = later[:, None] > later
    # per axis: pixels of the patches, their sources, which patches can supply which pixels
    pixels, sources, known, inside, others = [], [], [], [], []
    for axis, size in enumerate((width, height)):
        target, source = patches.target[..., axis], patches.source[..., axis]
        half = patches.half[..., axis]
        pixel, place = target[..., None] + steps, source[..., None] + steps
        readable = (place >= 0) & (place < size)
        inside.append((steps.abs() <= half[..., None]) & (pixel >= 0) & (pixel < size))
        # patch l of (B, l, m, pixel): does it reach the pixels of patch m
        step = pixel[:, None] - target[:, :, None, None]
        covers = step.abs() <= half[:, :, None, None]
        if fill is None:
            inside[-1] &= readable
            place_of_other = source[:, :, None, None] + step
            covers &= (place_of_other >= 0) & (place_of_other < size)
        others.append(covers)
        pixels.append(pixel.clamp(0, size - 1))
        sources.append(place.clamp(0, size - 1))
        known.append(readable)

    def both(axes: list[Tensor]) -> Tensor:
        return axes[1][..., None] & axes[0][..., None, :]

    covered = both(others) & (later & patches.active[..., None])[..., None, None]
    wins = both(inside) & patches.active[..., None, None] & ~covered.any(1)

    def flat(owner: Tensor, places: list[Tensor]) -> Tensor:
        """(B, M, C, rows, columns) indices of pixels in the flattened images."""
        first = owner[..., None] * channels + torch.arange(channels, device=images.device)
        x, y = places[0][:, :, None, None, :], places[1][:, :, None, :, None]
        return (first[..., None, None] * height + y) * width + x

    # one cell more than there are pixels takes what no pixel wants
    mixed = images.new_empty(images.numel() + 1)
    mixed[:-1] = images.reshape(-1)
    index = flat(rows.expand(-1, count), pixels)
    value = mixed[flat(patches.donor, sources)]
    if fill is not None:
        value = value.masked_fill(~both(known)[:, :, None], fill)
    weight = patches.weight.to(images.dtype)[..., None, None, None]
    value = (1 - weight) * mixed[index] + weight * value
    index = index.masked_fill(~wins[:, :, None], images.numel())
    mixed.scatter_(0, index.flatten(), value.flatten())
    return mixed[:-1].view(images.shape)
