"""Solids as images of unit shapes under an affine map, many at once.

Three shapes suffice: the prism |x|, |y|, |z| <= 1 whose front, back and sides
may lean inwards towards the top, the unit ball, and the unit cylinder about z.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

PRISM, BALL, CYLINDER = 0, 1, 2


@dataclass(frozen=True)
class Solids:
    """A structure of arrays over n solids.

    Attributes:
        kind: PRISM, BALL or CYLINDER, int (n,).
        center: metres, (n, 3).
        axes: orthonormal, column k is the world direction of local axis k, (n, 3, 3).
        half: half size along each local axis in metres, (n, 3).
        taper: prisms only, share of the half size by which front, back and both
            sides move in from bottom to top, (n, 3).
        reflectivity: (n,).
        density: expected returns per metre inside; inf for a hard surface, (n,).
        transmit: share of the rays that pass through, (n,).
        owner: id of the object the solid belongs to, int (n,).
    """

    kind: np.ndarray
    center: np.ndarray
    axes: np.ndarray
    half: np.ndarray
    taper: np.ndarray
    reflectivity: np.ndarray
    density: np.ndarray
    transmit: np.ndarray
    owner: np.ndarray

    def __len__(self) -> int:
        """Number of solids."""
        return len(self.kind)

    def __getitem__(self, index) -> Solids:
        """Selects solids by a numpy index."""
        return Solids(*(getattr(self, f.name)[index] for f in fields(self)))

    def extents(self) -> np.ndarray:
        """Half sizes of the axis-aligned bounding boxes, (n, 3)."""
        spread = self.axes * self.half[:, None, :]
        box = np.abs(spread).sum(-1)
        ball = np.sqrt((spread**2).sum(-1))
        cylinder = np.hypot(spread[..., 0], spread[..., 1]) + np.abs(spread[..., 2])
        kind = self.kind[:, None]
        return np.where(kind == PRISM, box, np.where(kind == BALL, ball, cylinder))

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper corner (3,) of the box around all solids."""
        extents = self.extents()
        return (self.center - extents).min(0), (self.center + extents).max(0)

    def placed(self, x: float, y: float, z: float, yaw: float, owner: int) -> Solids:
        """Turns the solids about z by ``yaw`` radians, moves them by (x, y, z), sets the owner."""
        c, s = np.cos(yaw), np.sin(yaw)
        turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        return replace(
            self,
            center=self.center @ turn.T + np.array([x, y, z]),
            axes=turn @ self.axes,
            owner=np.full(len(self), owner),
        )

    def shifted(self, offset: np.ndarray) -> Solids:
        """Moves the solids by ``offset`` (3,)."""
        return replace(self, center=self.center + offset)


def concatenate(parts: list[Solids]) -> Solids:
    """Joins several groups of solids."""
    return Solids(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Solids)))


class Builder:
    """Collects solids one by one in an object's own frame (x forward, z up, ground at 0)."""

    def __init__(self) -> None:
        self._rows: list[tuple] = []

    def __len__(self) -> int:
        """Number of solids so far."""
        return len(self._rows)

    def _add(self, kind, center, axes, half, taper, reflectivity, density, transmit) -> None:
        self._rows.append((kind, center, axes, half, taper, reflectivity, density, transmit, -1))

    def prism(
        self,
        center: tuple[float, float, float],
        size: tuple[float, float, float],
        yaw: float = 0.0,
        taper: tuple[float, float, float] = (0.0, 0.0, 0.0),
        reflectivity: float = 0.3,
        density: float = np.inf,
        transmit: float = 0.0,
    ) -> None:
        """Adds a box of full ``size`` metres with optionally leaning front, back and sides.

        Raises:
            ValueError: a taper outside [0, 2), with which the prism would outgrow its size.
        """
        if not all(0 <= v < 2 for v in taper):
            raise ValueError(f'taper must lie in [0, 2), got {taper}')
        c, s = np.cos(yaw), np.sin(yaw)
        axes = [[c, -s, 0], [s, c, 0], [0, 0, 1]]
        half = [v / 2 for v in size]
        self._add(PRISM, center, axes, half, taper, reflectivity, density, transmit)

    def ball(
        self,
        center: tuple[float, float, float],
        radii: tuple[float, float, float],
        reflectivity: float = 0.3,
        density: float = np.inf,
        transmit: float = 0.0,
    ) -> None:
        """Adds an ellipsoid with ``radii`` metres."""
        axes = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
        self._add(BALL, center, axes, radii, (0, 0, 0), reflectivity, density, transmit)

    def rod(
        self,
        start: tuple[float, float, float],
        end: tuple[float, float, float],
        radius: float,
        wide: float | None = None,
        reflectivity: float = 0.3,
        density: float = np.inf,
        transmit: float = 0.0,
    ) -> None:
        """Adds a cylinder from ``start`` to ``end``; ``wide`` is an oval's radius along y."""
        (x0, y0, z0), (x1, y1, z1) = start, end
        dx, dy, dz = x1 - x0, y1 - y0, z1 - z0
        length = max((dx * dx + dy * dy + dz * dz) ** 0.5, 1e-6)
        ax, ay, az = dx / length, dy / length, dz / length
        if abs(ay) < 0.9:  # second local axis: y made perpendicular to the rod
            vx, vy, vz = -ay * ax, 1 - ay * ay, -ay * az
        else:
            vx, vy, vz = -az * ax, -az * ay, 1 - az * az
        norm = (vx * vx + vy * vy + vz * vz) ** 0.5
        vx, vy, vz = vx / norm, vy / norm, vz / norm
        ux, uy, uz = vy * az - vz * ay, vz * ax - vx * az, vx * ay - vy * ax
        axes = [[ux, vx, ax], [uy, vy, ay], [uz, vz, az]]
        center = ((x0 + x1) / 2, (y0 + y1) / 2, (z0 + z1) / 2)
        half = (radius, wide or radius, length / 2)
        self._add(CYLINDER, center, axes, half, (0, 0, 0), reflectivity, density, transmit)

    def build(self) -> Solids:
        """The collected solids.

        Raises:
            ValueError: nothing was added.
        """
        if not self._rows:
            raise ValueError('an object needs at least one solid')
        columns = [np.array(column) for column in zip(*self._rows, strict=True)]
        return Solids(columns[0], *(c.astype(np.float64) for c in columns[1:-1]), columns[-1])
