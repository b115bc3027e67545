"""Painter's order: which of the things on the ground is in front of which."""

from __future__ import annotations

import heapq

import numpy as np


def _entry(corners: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Where rays x = slope * z enter convex footprints.

    Args:
        corners: x, z in metres, (N, 4, 2).
        slope: of the rays, (M, N).

    Returns:
        z of the first point on the ray, inf where there is none, (M, N).
    """
    x, z = corners[..., 0], corners[..., 1]
    side = x - slope[..., None] * z  # (M, N, 4): 0 on the ray
    then = np.roll(side, -1, -1)
    with np.errstate(divide='ignore', invalid='ignore'):
        share = np.where(side == then, 0.0, side / (side - then))
    hit = (side * then <= 0) & (share >= 0) & (share <= 1)
    at = z + np.nan_to_num(share) * (np.roll(z, -1, -1) - z)
    return np.where(hit, at, np.inf).min(-1)


def behind(corners: np.ndarray) -> np.ndarray:
    """Which footprints are behind which others, as seen from the origin.

    Args:
        corners: convex footprints, x and z > 0 in metres, (N, 4, 2).

    Returns:
        bool (N, N): [a, b] when some ray meets both and b first.
    """
    slopes = corners[..., 0] / corners[..., 1]
    low, high = slopes.min(1), slopes.max(1)
    left, right = np.maximum(low[:, None], low), np.minimum(high[:, None], high)
    middle = (left + right) / 2
    entry = _entry(corners, middle)  # [a, b]: into b on the ray of a and b
    return (left < right) & (entry < entry.T) & np.isfinite(entry.T)


def painters_order(corners: np.ndarray) -> list[int]:
    """Indices of footprints such that each comes after all it hides.

    Convex footprints that do not overlap always have such an order, as "in front of" has
    no cycles in the plane. Where some overlap, the farthest goes first.

    Args:
        corners: convex footprints, x and z > 0 in metres, (N, 4, 2).
    """
    if not len(corners):
        return []
    hidden = behind(corners)
    waits = hidden.sum(0)  # how many must be painted before
    depth = corners[..., 1].min(1)
    ready = [(-depth[i], i) for i in np.flatnonzero(waits == 0).tolist()]
    heapq.heapify(ready)
    left, order = set(range(len(corners))), []
    while left:
        if ready:
            now = heapq.heappop(ready)[1]
            if now not in left:
                continue
        else:
            now = max(left, key=lambda i: depth[i])
        left.remove(now)
        order.append(now)
        for other in np.flatnonzero(hidden[now]).tolist():
            waits[other] -= 1
            if waits[other] == 0:
                heapq.heappush(ready, (-depth[other], other))
    return order
