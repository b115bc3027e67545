"""The first points of a cloud, in its own order, inside balls around centres.

Points are binned into square columns a little wider than the ball, so that a ball meets at most
nine of them. Distances are computed in the type of the input, in the order of mmcv's kernels.
"""

import numpy as np
import torch
from torch import Tensor

from mmdistill.det3d.compiled import compiled

_MAX_COLUMNS = 512


def ball_query(
    min_radius: float,
    max_radius: float,
    sample_num: int,
    xyz: Tensor,
    center_xyz: Tensor,
    xyz_batch_cnt: Tensor | None = None,
    center_xyz_batch_cnt: Tensor | None = None,
) -> Tensor:
    """Finds, per centre, the first points that are nearer than a radius.

    Rows with too few points are filled with their first one. Rows of empty balls are ``0 0 ...``
    in the padded form and ``-1 0 0 ...`` in the stacked one, as in mmcv.

    Args:
        min_radius: only points at least so far away, or at the centre itself, in metres. The
            stacked form does not look at it.
        max_radius: only points nearer than this, in metres.
        sample_num: number S of points per ball.
        xyz: ``(B, N, 3)`` points, or stacked ``(N1 + N2 + ..., 3)``.
        center_xyz: ``(B, M, 3)`` centres, or stacked ``(M1 + M2 + ..., 3)``.
        xyz_batch_cnt: ``(B,)`` numbers of points of the samples, for the stacked form.
        center_xyz_batch_cnt: ``(B,)`` numbers of centres of the samples, for the stacked form.

    Returns:
        ``(B, M, S)`` or ``(M1 + M2 + ..., S)`` int32 indices; stacked ones count from the first
        point of their own sample.

    Raises:
        ValueError: If the radii are not in order.
    """
    if min_radius >= max_radius:
        raise ValueError(f'min_radius must be below max_radius, got {min_radius} and {max_radius}')
    xyz, center_xyz = xyz.detach(), center_xyz.detach()
    if xyz_batch_cnt is None or center_xyz_batch_cnt is None:
        pairs = zip(xyz, center_xyz, strict=True)
        rows = [_query(min_radius, max_radius, sample_num, *pair)[0] for pair in pairs]
        return torch.stack(rows) if rows else xyz.new_zeros((0, 0, sample_num), dtype=torch.int32)
    points = xyz.split(xyz_batch_cnt.tolist())
    centers = center_xyz.split(center_xyz_batch_cnt.tolist())
    parts = []
    for pair in zip(points, centers, strict=True):
        rows, empty = _query(0, max_radius, sample_num, *pair)
        rows[empty, 0] = -1
        parts.append(rows)
    return torch.cat(parts)


def _query(
    min_radius: float, max_radius: float, sample_num: int, points: Tensor, centers: Tensor
) -> tuple[Tensor, Tensor]:
    """Indices ``(M, S)`` for one sample and which rows ``(M,)`` found nothing."""
    dtype = torch.promote_types(points.dtype, torch.float32)
    points = points.to(dtype).contiguous().numpy()
    centers = centers.to(dtype).contiguous().numpy()
    order, *columns = _columns(points, max_radius)
    limits = np.array([min_radius, max_radius], points.dtype) ** 2
    found = np.zeros((len(centers), sample_num), np.int32)
    counts = np.zeros(len(centers), np.int32)
    _search(points[order], order, *columns, centers, limits, found, counts)
    return torch.from_numpy(found), torch.from_numpy(counts == 0)


def _columns(points: np.ndarray, radius: float) -> tuple:
    """Sorts the finite points by square column of the ground plane.

    Returns:
        Their indices in that order, where each column starts among them, the corner (2,) of the
        grid, the width of a column, and the numbers of rows (y) and columns (x).
    """
    finite = np.flatnonzero(np.isfinite(points).all(1))
    ground = points[finite, :2].astype(np.float64)
    if not len(finite):
        return finite, np.zeros(2, np.int64), np.zeros(2), 1.0, (1, 1)
    origin = ground.min(0)
    extent = ground.max(0) - origin
    width = max(1.001 * radius, extent.max() / _MAX_COLUMNS)
    column, row = ((ground - origin) / width).astype(np.int64).T
    columns, rows = int(column.max()) + 1, int(row.max()) + 1
    place = row * columns + column
    order = np.argsort(place, kind='stable')
    start = np.zeros(rows * columns + 1, np.int64)
    np.cumsum(np.bincount(place, minlength=rows * columns), out=start[1:])
    return finite[order], start, origin, width, (rows, columns)


@compiled
def _search(points, order, column_start, origin, width, shape, centers, limits, found, counts):
    """Fills ``found`` (M, S) with the smallest ``order`` in each ball, and ``counts`` (M,)."""
    rows, columns = shape
    limit = found.shape[1]
    for m in range(len(centers)):
        x, y, z = centers[m, 0], centers[m, 1], centers[m, 2]
        if not (np.isfinite(x) and np.isfinite(y)):
            continue
        column = int(min(max(np.floor((x - origin[0]) / width), -2), columns + 1))
        row = int(min(max(np.floor((y - origin[1]) / width), -2), rows + 1))
        left, right = max(column - 1, 0), min(column + 2, columns)
        count = 0
        for r in range(max(row - 1, 0), min(row + 2, rows)):
            if left >= right:
                break
            for k in range(column_start[r * columns + left], column_start[r * columns + right]):
                index = order[k]
                if count == limit and index > found[m, limit - 1]:
                    continue
                dx, dy, dz = x - points[k, 0], y - points[k, 1], z - points[k, 2]
                square = dx * dx + dy * dy + dz * dz
                if square >= limits[1] or not (square == 0 or square >= limits[0]):
                    continue
                slot = min(count, limit - 1)
                while slot > 0 and found[m, slot - 1] > index:
                    found[m, slot] = found[m, slot - 1]
                    slot -= 1
                found[m, slot] = index
                count = min(count + 1, limit)
        for slot in range(count, limit):
            found[m, slot] = found[m, 0]
        counts[m] = count
