"""Features of points reduced to their voxels, with gradients."""

import torch
from torch import Tensor


def dynamic_scatter(
    feats: Tensor, coors: Tensor, reduce_type: str = 'max', return_map: bool = False
) -> tuple[Tensor, ...]:
    """Reduces the features of all points with the same coordinates.

    Args:
        feats: ``(N, C)`` features; the gradient of a maximum goes to its first point.
        coors: ``(N, D)`` integer coordinates; points with a negative one are left out.
        reduce_type: ``max``, ``mean`` or ``sum``.
        return_map: also return each point's voxel.

    Returns:
        ``(M, C)`` features and ``(M, D)`` coordinates in ascending order; with ``return_map`` also
        ``(N,)`` int32 rows of the points, -1 for those left out.

    Raises:
        ValueError: If there is no such reduction.
    """
    if reduce_type not in ('max', 'mean', 'sum'):
        raise ValueError(f"reduce_type must be 'max', 'mean' or 'sum', got {reduce_type!r}")
    rows = (coors >= 0).all(1).nonzero().squeeze(1)
    voxels, row_of, counts = _unique(coors[rows])
    values = feats[rows]
    index = row_of[:, None].expand_as(values)
    if reduce_type == 'max':
        reduced = values.gather(0, _first_maximum(values.detach(), index, len(voxels)))
    else:
        reduced = values.new_zeros(len(voxels), values.shape[1]).scatter_add(0, index, values)
    if reduce_type == 'mean':
        reduced = reduced / counts[:, None]
    if not return_map:
        return reduced, voxels
    point2voxel = coors.new_full((len(coors),), -1, dtype=torch.int32)
    point2voxel[rows] = row_of.int()
    return reduced, voxels, point2voxel


def _unique(coors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct rows in ascending order, the row of each point, and how often each occurs."""
    if not len(coors):
        none = coors.new_zeros(0, dtype=torch.long)
        return coors, none, none
    place = torch.zeros(len(coors), dtype=torch.long)
    for column in coors.long().unbind(1):
        place = place * (column.max() + 1) + column
    places, row_of, counts = place.unique(return_inverse=True, return_counts=True)
    first = torch.full_like(places, len(coors))
    first.scatter_reduce_(0, row_of, torch.arange(len(coors)), 'amin')
    return coors[first], row_of, counts


def _first_maximum(values: Tensor, index: Tensor, num_voxels: int) -> Tensor:
    """Per voxel and channel the first point that holds the maximum, ``(M, C)``."""
    size = (num_voxels, values.shape[1])
    highest = values.new_full(size, -torch.inf).scatter_reduce(0, index, values, 'amax')
    point = torch.arange(len(values))[:, None].expand_as(values)
    point = torch.where(values == highest.gather(0, index), point, len(values))
    first = torch.full(size, len(values)).scatter_reduce(0, index, point, 'amin')
    return first.clamp(max=max(len(values) - 1, 0))
