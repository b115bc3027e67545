"""Grids, codecs, joints and views that the pose tests share."""

import itertools
from dataclasses import replace

import numpy as np
import torch
from mmpose.codecs import MSRAHeatmap, UDPHeatmap

from mmdistill.pose.views import ViewRange

SIZES = dict(input_size=(192, 256), heatmap_size=(48, 64))
CODECS = {
    'msra': lambda: MSRAHeatmap(**SIZES, sigma=2),
    'msra-unbiased': lambda: MSRAHeatmap(**SIZES, sigma=2, unbiased=True),
    'udp': lambda: UDPHeatmap(**SIZES, sigma=2),
}
COCO_FLIP = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]


def uniform(*shape, seed=0, dtype=torch.float64):
    """Random numbers in [0, 1)."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def random_joints(batch, count=17, seed=1, margin=24.0):
    """(B, K, 2) float64 joints in input pixels, ``margin`` input pixels from the border."""
    size = torch.tensor(SIZES['input_size'], dtype=torch.float64) - 1
    return margin + uniform(batch, count, 2, seed=seed) * (size - 2 * margin)


def encode(codec, joints):
    """(B, K, h, w) float32 heatmaps of mmpose."""
    maps = [codec.encode(each[None].numpy())['heatmaps'] for each in joints]
    return torch.from_numpy(np.stack(maps))


def gaussians(joints, grid, sigma=2.0):
    """(B, K, h, w) exact Gaussians at joints in input pixels, in their dtype."""
    place = grid.to_heatmap(joints)
    width, height = grid.heatmap_size
    x = torch.arange(width, dtype=joints.dtype) - place[..., 0, None]
    y = torch.arange(height, dtype=joints.dtype) - place[..., 1, None]
    return (-(y**2)[..., None] / (2 * sigma**2) - (x**2)[..., None, :] / (2 * sigma**2)).exp()


def centroids(maps):
    """(B, K, 2) centres of mass of heatmaps in heatmap pixels."""
    height, width = maps.shape[-2:]
    mass = maps.sum((2, 3))
    x = (maps.sum(2) * torch.arange(width)).sum(-1) / mass
    y = (maps.sum(3) * torch.arange(height)).sum(-1) / mass
    return torch.stack([x, y], -1)


def well_inside(places, grid, margin=6.0):
    """(B, K) bool: at least ``margin`` heatmap pixels from every border."""
    size = torch.tensor(grid.heatmap_size) - 1
    return ((places >= margin) & (places <= size - margin)).all(-1)


def hard_views(grid, batch, seed=2, dtype=torch.float64, **changes):
    """Views with everything on: rotation, scale, shift and flips in half of the samples."""
    options = dict(flip_prob=0.5, shift=0.05) | changes
    return ViewRange(**options).draw(uniform(batch, 6, seed=seed, dtype=dtype), grid)


def naive(grid, convention='half_pixel'):
    """The same sizes, with the pixels aligned as one normalised grid for all maps assumes."""
    return replace(grid, convention=convention)


def mixed_by_definition(images, patches, fill=None):
    """The definition in loops: later patches win, reads are from the unmixed images."""
    height, width = images.shape[-2:]
    mixed = images.clone()
    for n, m in itertools.product(range(len(images)), range(patches.active.shape[1])):
        if not patches.active[n, m]:
            continue
        (dx, dy), (sx, sy) = patches.target[n, m].tolist(), patches.source[n, m].tolist()
        (ax, ay), weight = patches.half[n, m].tolist(), patches.weight[n, m].to(images.dtype)
        donor = images[patches.donor[n, m]]
        for y in range(max(0, dy - ay), min(height, dy + ay + 1)):
            for x in range(max(0, dx - ax), min(width, dx + ax + 1)):
                u, v = sx + x - dx, sy + y - dy
                if 0 <= u < width and 0 <= v < height:
                    value = donor[:, v, u]
                elif fill is None:
                    continue
                else:
                    value = torch.full_like(donor[:, 0, 0], fill)
                mixed[n, :, y, x] = (1 - weight) * images[n, :, y, x] + weight * value
    return mixed
