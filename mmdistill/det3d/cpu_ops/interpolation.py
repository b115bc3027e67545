"""Nearest neighbours and features interpolated from them."""

import numpy as np
import torch
from torch import Tensor

from mmdistill.det3d.compiled import compiled
from mmdistill.det3d.cpu_ops.grouping import grouping_operation


@torch.no_grad()
def three_nn(target: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
    """Finds the three nearest points of another cloud, the nearest one first.

    Args:
        target: ``(B, N, 3)`` points whose neighbours are sought.
        source: ``(B, M, 3)`` points among which they are sought. Of equally near ones the first
            comes first; missing ones, for M < 3, are infinitely far and have index 0.

    Returns:
        ``(B, N, 3)`` distances in metres and int32 indices.
    """
    dtype = torch.promote_types(target.dtype, torch.float32)
    square = np.full(target.shape, np.inf, torch.empty(0, dtype=dtype).numpy().dtype)
    index = np.zeros(target.shape, np.int32)
    for b in range(len(target)):
        here, there = (points[b].to(dtype).contiguous().numpy() for points in (target, source))
        _nearest_three(here, there, square[b], index[b])
    return torch.from_numpy(square).sqrt().to(target.dtype), torch.from_numpy(index)


def three_interpolate(features: Tensor, indices: Tensor, weight: Tensor) -> Tensor:
    """Averages the features of three points with weights.

    Args:
        features: ``(B, C, M)`` features; they get gradients.
        indices: ``(B, N, 3)`` indices of three points.
        weight: ``(B, N, 3)`` weights; they get no gradients, as in mmcv.

    Returns:
        ``(B, C, N)`` features.
    """
    return (grouping_operation(features, indices) * weight.detach()[:, None]).sum(3)


@compiled
def _nearest_three(target, source, square, index):
    """Fills ``square`` and ``index`` (N, 3) in ascending order."""
    for n in range(len(target)):
        x, y, z = target[n, 0], target[n, 1], target[n, 2]
        for k in range(len(source)):
            dx, dy, dz = x - source[k, 0], y - source[k, 1], z - source[k, 2]
            value = dx * dx + dy * dy + dz * dz
            if not value < square[n, 2]:
                continue
            slot = 2
            while slot > 0 and value < square[n, slot - 1]:
                square[n, slot], index[n, slot] = square[n, slot - 1], index[n, slot - 1]
                slot -= 1
            square[n, slot], index[n, slot] = value, k
