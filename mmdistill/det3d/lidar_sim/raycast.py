"""Nearest hit of every ray among many solids.

Each solid is tested only against the rays of its own window in azimuth and
elevation; all (ray, solid) pairs of a scene are then intersected together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .sensor import Lidar
from .solids import BALL, CYLINDER, PRISM, Solids


@dataclass(frozen=True)
class Hits:
    """Nearest hits of a scene's solids, R rays.

    Attributes:
        distance: metres along the ray, inf without a hit, (R,).
        solid: index of the solid hit, -1 without one, int (R,).
        cosine: |cos| of the angle of incidence, (R,).
        pair_ray: ray of each single intersection, hidden ones too, int (P,).
        pair_solid: its solid, int (P,).
    """

    distance: np.ndarray
    solid: np.ndarray
    cosine: np.ndarray
    pair_ray: np.ndarray
    pair_solid: np.ndarray


def windows(solids: Solids, lidar: Lidar) -> tuple[np.ndarray, ...]:
    """First row, last row, first column, columns that can meet each solid, int (n,) each.

    The windows are conservative: no ray outside of them meets the solid.
    """
    extents = solids.extents()
    flat = np.abs(solids.axes[:, 2, 2]) > 1 - 1e-9
    local = np.abs(np.einsum('nji,nj->ni', solids.axes, solids.center))
    gap_local = np.maximum(local - solids.half, 0)[:, :2]
    gap_world = np.maximum(np.abs(solids.center) - extents, 0)[:, :2]
    near = np.where(flat, np.hypot(*gap_local.T), np.hypot(*gap_world.T))
    far = np.hypot(*(np.abs(solids.center) + extents)[:, :2].T)
    low, high = solids.center[:, 2] - extents[:, 2], solids.center[:, 2] + extents[:, 2]
    e_min = np.arctan2(low, np.where(low < 0, near, far))
    e_max = np.arctan2(high, np.where(high > 0, near, far))

    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    spread = solids.axes * solids.half[:, None, :]
    corners = solids.center[:, None, :2] + np.einsum('nij,kj->nki', spread, signs)[..., :2]
    middle = np.arctan2(solids.center[:, 1], solids.center[:, 0])
    turn = np.arctan2(corners[..., 1], corners[..., 0]) - middle[:, None]
    turn = (turn + np.pi) % (2 * np.pi) - np.pi
    a_min, a_max = middle + turn.min(1), middle + turn.max(1)
    around = (near < 1e-6) | (turn.max(1) - turn.min(1) >= np.pi)

    step = np.deg2rad(lidar.azimuth_step)
    first = np.floor((a_min + np.deg2rad(lidar.sector)) / step).astype(int) - 1
    last = np.ceil((a_max + np.deg2rad(lidar.sector)) / step).astype(int)
    first, last = np.where(around, 0, first), np.where(around, lidar.columns - 1, last)
    if not lidar.full_sweep:
        first, last = np.maximum(first, 0), np.minimum(last, lidar.columns - 1)
    columns = np.clip(last - first + 1, 0, lidar.columns)
    falling = -lidar.elevations
    top = np.searchsorted(falling, -e_max - 1e-9)
    bottom = np.searchsorted(falling, -e_min + 1e-9) - 1
    return top, bottom, first, columns


def cast(solids: Solids, lidar: Lidar, rays: np.ndarray, rng: np.random.Generator) -> Hits:
    """Finds the nearest hit of each ray.

    Args:
        solids: in the LiDAR frame.
        lidar: whose grid the rays follow.
        rays: unit directions from :meth:`Lidar.rays`, (R, 3).
        rng: decides which rays pass through porous and transparent solids.
    """
    top, bottom, first, columns = windows(solids, lidar)
    count = np.maximum(bottom - top + 1, 0) * columns
    ids = np.repeat(np.arange(len(solids)), count)
    within = np.arange(len(ids)) - np.repeat(np.cumsum(count) - count, count)
    width = columns[ids]
    row = within // np.maximum(width, 1)
    column = (first[ids] + within - row * width) % lidar.columns
    ray = (top[ids] + row) * lidar.columns + column

    # In the frame where the solid is a unit shape, t still counts metres.
    shrink = solids.axes.transpose(0, 2, 1) / solids.half[:, :, None]
    origin = -np.einsum('nij,nj->ni', shrink, solids.center)
    d = rays[ray]
    m = shrink.reshape(-1, 9)[ids]
    local = np.stack([(m[:, 3 * k : 3 * k + 3] * d).sum(1) for k in range(3)], axis=1)

    enter, leave = np.full(len(ids), np.inf), np.full(len(ids), -np.inf)
    kind = solids.kind[ids]
    for code, meet in ((PRISM, _prism), (BALL, _ball), (CYLINDER, _cylinder)):
        mine = np.flatnonzero(kind == code)
        which = ids[mine]
        enter[mine], leave[mine] = meet(origin[which], local[mine], solids.taper[which])

    met = np.flatnonzero((enter < leave) & (enter > 0))
    ids, ray, local, t = ids[met], ray[met], local[met], enter[met]
    depth = rng.exponential(size=len(ids)) / solids.density[ids]
    passed = rng.random(len(ids)) < solids.transmit[ids]
    t = t + depth
    stay = np.flatnonzero((t < leave[met]) & ~passed)
    ids, ray, local, t = ids[stay], ray[stay], local[stay], t[stay]

    distance = np.full(len(rays), np.inf)
    np.minimum.at(distance, ray, t)
    winner = np.full(len(rays), -1)
    won = np.flatnonzero(t == distance[ray])
    winner[ray[won]] = won
    struck = np.flatnonzero(winner >= 0)
    pair = winner[struck]
    solid = np.full(len(rays), -1)
    solid[struck] = ids[pair]
    cosine = np.ones(len(rays))
    cosine[struck] = _cosine(solids[ids[pair]], origin[ids[pair]], local[pair], t[pair])
    soft = struck[np.isfinite(solids.density[solid[struck]])]
    cosine[soft] = rng.uniform(0.3, 1.0, len(soft))
    return Hits(distance, solid, cosine, ray, ids)


def _clip(enter, leave, slope, room):
    """Cuts the interval [enter, leave] to where ``slope * t <= room``."""
    with np.errstate(divide='ignore', invalid='ignore'):
        t = room / slope
    enter = np.where(slope < 0, np.maximum(enter, t), enter)
    leave = np.where(slope > 0, np.minimum(leave, t), leave)
    return enter, np.where((slope == 0) & (room < 0), -np.inf, leave)


def _faces(taper: np.ndarray) -> list[tuple]:
    """Normals and offsets (nx, ny, nz, offset) of the six faces of prisms with taper (N, 3)."""
    front, back, side = taper.T / 2
    return [
        (0, 0, 1, 1),
        (0, 0, -1, 1),
        (1, 0, front, 1 - front),
        (-1, 0, back, 1 - back),
        (0, 1, side, 1 - side),
        (0, -1, side, 1 - side),
    ]


def _prism(origin, local, taper):
    """Enter and leave distance (N,) of rays through tapered unit boxes."""
    enter, leave = np.full(len(local), -np.inf), np.full(len(local), np.inf)
    for nx, ny, nz, offset in _faces(taper):
        slope = nz * local[:, 2]
        room = offset - nz * origin[:, 2]
        for sign, axis in ((nx, 0), (ny, 1)):
            if sign:
                slope = slope + sign * local[:, axis]
                room = room - sign * origin[:, axis]
        enter, leave = _clip(enter, leave, slope, room)
    return enter, leave


def _roots(a, b, c):
    """Real roots of a t^2 + 2 b t + c (a >= 0), as an empty interval when there are none."""
    with np.errstate(divide='ignore', invalid='ignore'):
        root = np.sqrt(b * b - a * c)
        enter, leave = (-b - root) / a, (-b + root) / a
    none = np.isnan(enter)
    return np.where(none, np.inf, enter), np.where(none, -np.inf, leave)


def _ball(origin, local, taper):
    """Enter and leave distance (N,) of rays through unit balls."""
    return _roots((local**2).sum(1), (origin * local).sum(1), (origin**2).sum(1) - 1)


def _cylinder(origin, local, taper):
    """Enter and leave distance (N,) of rays through unit cylinders about z."""
    o, d = origin[:, :2], local[:, :2]
    enter, leave = _roots((d**2).sum(1), (o * d).sum(1), (o**2).sum(1) - 1)
    enter, leave = _clip(enter, leave, local[:, 2], 1 - origin[:, 2])
    return _clip(enter, leave, -local[:, 2], 1 + origin[:, 2])


def _cosine(solids: Solids, origin, local, t) -> np.ndarray:
    """|cos| of incidence (N,) at the points hit, one solid per hit."""
    point = origin + t[:, None] * local
    normal = point.copy()
    faces = np.stack(
        [np.stack(np.broadcast_arrays(*face, t)[:4], axis=-1) for face in _faces(solids.taper)]
    )
    excess = np.abs((faces[..., :3] * point).sum(-1) - faces[..., 3])
    nearest = faces[excess.argmin(0), np.arange(len(t)), :3]
    flat = solids.kind == PRISM
    normal[flat] = nearest[flat]
    tube = solids.kind == CYLINDER
    cap = tube & (np.hypot(point[:, 0], point[:, 1]) < 1 - 1e-6)
    normal[tube, 2] = 0
    normal[cap] = (0, 0, 1)
    matrix = solids.axes.transpose(0, 2, 1) / solids.half[:, :, None]
    world = np.einsum('nij,ni->nj', matrix, normal)
    along = np.abs((normal * local).sum(1))
    return np.clip(along / np.linalg.norm(world, axis=1), 0, 1)
