"""Images, heatmaps and weights follow a view, in one batched call.

``grid_sample`` counts in coordinates from -1 to 1 over each map. One such grid for an image and
its heatmap is wrong by ``(1 - linear) 0.375`` heatmap pixels for MSRA heatmaps at a quarter of the
input (up to 3 input pixels), because their pixels are not aligned by halves. Here the view is
turned into heatmap pixels first and normalised for each map by itself.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mmdistill.pose.heatmaps import HeatmapGrid
from mmdistill.pose.peaks import peaks
from mmdistill.pose.views import Affine


def warp(maps: Tensor, view: Affine, align_corners: bool = False) -> Tensor:
    """Moves maps: the value at pixel ``p`` comes from ``view^-1(p)``, bilinear, 0 outside.

    Samples whose view is the identity come out bit for bit. Half precision maps are read in
    float32.

    Args:
        maps: (B, C, h, w) floats.
        view: B maps in the pixels of ``maps``.
        align_corners: which of ``grid_sample``'s two normalisations is used; the result is the
            same up to rounding.

    Returns:
        (B, C, h, w).

    Raises:
        ValueError: batch sizes that differ.
    """
    if len(maps) != len(view):
        raise ValueError(f'{len(view)} views for {len(maps)} maps')
    height, width = maps.shape[-2:]
    back = view.inverse()
    dtype = torch.promote_types(maps.dtype, torch.float32)
    linear, shift = back.linear.to(dtype), back.shift.to(dtype)
    x = torch.arange(width, device=maps.device, dtype=dtype)
    y = torch.arange(height, device=maps.device, dtype=dtype)[:, None]
    axes = []
    for axis, size in enumerate((width, height)):
        a, b, t = (part[:, None, None] for part in (*linear[:, axis].unbind(-1), shift[:, axis]))
        if align_corners:
            step, first = 2 / (size - 1), 2 * t / (size - 1) - 1
        else:
            step, first = 2 / size, (2 * t + 1) / size - 1
        axes.append((step * a) * x + ((step * b) * y + first))
    moved = functional.grid_sample(
        maps.to(dtype), torch.stack(axes, -1), padding_mode='zeros', align_corners=align_corners
    ).to(maps.dtype)
    still = (linear == torch.eye(2, device=maps.device)).flatten(1).all(1) & (shift == 0).all(1)
    return torch.where(still[:, None, None, None], maps, moved)


@dataclass(frozen=True)
class WarpedViews:
    """What a view makes of a batch; no part of it has a gradient.

    Attributes:
        images: (B, 3, H, W).
        heatmaps: (B, K, h, w).
        weights: (B, K) or (B, K or 1, h, w), 0 for joints outside the map.
        places: (B, K, 2) joints in heatmap pixels of the new view.
        valid: (B, K) bool, the joint was and is on the map.
    """

    images: Tensor
    heatmaps: Tensor
    weights: Tensor
    places: Tensor
    valid: Tensor


@torch.no_grad()
def warp_views(
    view: Affine,
    grid: HeatmapGrid,
    images: Tensor,
    heatmaps: Tensor,
    flip_indices: Tensor,
    weights: Tensor | None = None,
    places: Tensor | None = None,
) -> WarpedViews:
    """Warps images, heatmaps and weights from one view to another.

    Args:
        view: B maps in input pixels.
        grid: where the pixels of the heatmaps lie.
        images: (B, 3, H, W).
        heatmaps: (B, K, h, w) targets of the easy view.
        flip_indices: (K,) see :func:`mmdistill.pose.views.check_flip_indices`.
        weights: (B, K) per joint, or (B, K, h, w) or (B, 1, h, w) per pixel; 1 when left out.
        places: (B, K, 2) joints in heatmap pixels of the easy view; the highest pixels of the
            heatmaps when left out.

    Raises:
        ValueError: maps of another size than the grid says.
    """
    for name, maps, size in (
        ('images', images, grid.input_size),
        ('heatmaps', heatmaps, grid.heatmap_size),
    ):
        if tuple(maps.shape[-2:]) != size[::-1]:
            raise ValueError(f'{name} of {tuple(maps.shape[-2:])} pixels, not {size[::-1]}')
    small = view.on_heatmap(grid)
    if places is None:
        places = peaks(heatmaps)[0]
    moved = small.points(places)
    valid = view.swap(grid.contains(places) & grid.contains(moved), flip_indices)
    moved = view.swap(moved, flip_indices)
    if weights is None:
        weights = torch.ones_like(valid, dtype=heatmaps.dtype)
    joints = heatmaps.shape[1]
    if weights.dim() == 2:
        warped = view.swap(warp(heatmaps, small), flip_indices)
        weights = view.swap(weights, flip_indices) * valid
    else:
        both = warp(torch.cat([heatmaps, weights.to(heatmaps.dtype)], 1), small)
        warped, weights = view.swap(both[:, :joints], flip_indices), both[:, joints:]
        if weights.shape[1] == joints:
            weights = view.swap(weights, flip_indices) * valid[:, :, None, None]
    return WarpedViews(warp(images, view), warped, weights, moved, valid)
