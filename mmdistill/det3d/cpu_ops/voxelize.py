"""Voxels of a point cloud by sorting, equal to mmcv's one by one.

mmcv 2.1.0 fills a dense integer grid per cloud on the CPU, 40 x 1600 x 1408 cells on KITTI. Here
the cost depends on the number of points alone.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def voxelization(
    points: Tensor,
    voxel_size: Sequence[float],
    coors_range: Sequence[float],
    max_points: int = 35,
    max_voxels: int = 20000,
    deterministic: bool = True,
) -> Tensor | tuple[Tensor, Tensor, Tensor]:
    """Puts points into voxels.

    Voxels stand in the order in which their first points come; when there are ``max_voxels`` of
    them, points of further ones are dropped. A voxel holds its first ``max_points`` points.

    Args:
        points: ``(N, C)`` points, the first three columns are x, y, z.
        voxel_size: sizes along x, y, z in metres.
        coors_range: ``[x_min, y_min, z_min, x_max, y_max, z_max]`` in metres.
        max_points: points per voxel. -1 for dynamic voxelisation: coordinates only.
        max_voxels: number of voxels. -1 for dynamic voxelisation.
        deterministic: without effect, the result always is.

    Returns:
        ``(V, max_points, C)`` points padded with zeros, ``(V, 3)`` int32 voxel coordinates
        z, y, x, and ``(V,)`` int32 numbers of points; or, dynamic, ``(N, 3)`` int32 coordinates of
        the points, -1 for those out of range.
    """
    cells, inside, grid = _cells(points, voxel_size, coors_range)
    if max_points == -1 or max_voxels == -1:
        return torch.where(inside[:, None], cells, -1).flip(1).int()
    rows = inside.nonzero().squeeze(1)
    x, y, z = cells[rows].unbind(1)
    place = (z * grid[1] + y) * grid[0] + x
    place, order = place.sort(stable=True)
    place, sizes = torch.unique_consecutive(place, return_counts=True)
    start = sizes.cumsum(0) - sizes
    by_appearance = order[start].argsort()[:max_voxels]

    rank = torch.full_like(start, len(start))
    rank[by_appearance] = torch.arange(len(by_appearance))
    rank = rank.repeat_interleave(sizes)
    slot = torch.arange(len(order)) - start.repeat_interleave(sizes)
    kept = ((rank < max_voxels) & (slot < max_points)).nonzero().squeeze(1)
    voxels = points.new_zeros(len(by_appearance), max_points, points.shape[1])
    voxels[rank[kept], slot[kept]] = points[rows[order[kept]]]

    place, sizes = place[by_appearance], sizes[by_appearance].clamp(max=max_points)
    coors = torch.stack((place // (grid[0] * grid[1]), place // grid[0] % grid[1], place % grid[0]))
    return voxels, coors.t().int().contiguous(), sizes.int()


def _cells(
    points: Tensor, voxel_size: Sequence[float], coors_range: Sequence[float]
) -> tuple[Tensor, Tensor, list[int]]:
    """Cells x, y, z of the points (N, 3), which are in range (N,), and the grid's size x, y, z.

    The numbers go through float32 as in mmcv, so that points on borders fall on the same side.
    """
    size = torch.tensor(voxel_size, dtype=torch.float32)
    low, high = torch.tensor(coors_range, dtype=torch.float32).view(2, 3)
    grid = ((high - low) / size + 0.5).floor().long()
    cells = ((points[:, :3] - low.to(points)) / size.to(points)).floor()
    inside = ((cells >= 0) & (cells < grid)).all(1)
    return torch.where(inside[:, None], cells, 0).long(), inside, grid.tolist()
