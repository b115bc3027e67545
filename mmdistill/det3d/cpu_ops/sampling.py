"""Furthest point sampling on the CPU.

Both functions begin with point 0 and, as mmcv's kernels, repeat it when more points are asked for
than there are places. Of several furthest points the first one is taken.
"""

import numpy as np
import torch
from torch import Tensor

from mmdistill.det3d.compiled import compiled


def furthest_point_sample(points_xyz: Tensor, num_points: int) -> Tensor:
    """Picks points one by one, each the furthest from all that were picked before.

    Args:
        points_xyz: ``(B, N, 3)`` coordinates.
        num_points: number M of points to pick.

    Returns:
        ``(B, M)`` int32 indices.

    Raises:
        ValueError: If there is no point to pick.
    """
    _check(points_xyz, num_points)
    dtype = torch.promote_types(points_xyz.dtype, torch.float32)
    picked = np.zeros((len(points_xyz), num_points), np.int32)
    for points, row in zip(points_xyz.detach().to(dtype), picked, strict=True):
        _spread(points.t().contiguous().numpy(), row)
    return torch.from_numpy(picked)


@torch.no_grad()
def furthest_point_sample_with_dist(points_dist: Tensor, num_points: int) -> Tensor:
    """As :func:`furthest_point_sample`, by a matrix of distances.

    Args:
        points_dist: ``(B, N, N)`` distances.
        num_points: number M of points to pick.

    Returns:
        ``(B, M)`` int32 indices.

    Raises:
        ValueError: If there is no point to pick.
    """
    _check(points_dist, num_points)
    samples = torch.arange(len(points_dist))
    picked = torch.zeros(len(points_dist), num_points, dtype=torch.int32)
    distance = points_dist.new_full(points_dist.shape[:2], torch.inf)
    for step in range(1, num_points):
        distance = torch.minimum(distance, points_dist[samples, picked[:, step - 1].long()])
        picked[:, step] = distance.argmax(1)
    return picked


def _check(points: Tensor, num_points: int) -> None:
    """Refuses an empty cloud."""
    if points.shape[1] == 0:
        raise ValueError(f'cannot sample {num_points} points of an empty cloud')


@compiled
def _spread(xyz, picked):
    """Fills ``picked`` (M,) with indices of the points ``xyz`` (3, N)."""
    nearest = np.full(xyz.shape[1], np.inf, xyz.dtype)
    last = 0
    for step in range(1, len(picked)):
        x, y, z = xyz[0, last], xyz[1, last], xyz[2, last]
        for k in range(len(nearest)):
            dx, dy, dz = xyz[0, k] - x, xyz[1, k] - y, xyz[2, k] - z
            nearest[k] = min(nearest[k], dx * dx + dy * dy + dz * dz)
        last = 0
        for k in range(len(nearest)):
            if nearest[k] > nearest[last]:
                last = k
        picked[step] = last
