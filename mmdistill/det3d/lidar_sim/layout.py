"""Where things stand: a street with lanes, parked rows, pavements, fronts, side roads."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

_Rng = np.random.Generator


@dataclass(frozen=True)
class Ground:
    """The height of the ground in the LiDAR frame.

    Attributes:
        base: height in metres below the sensor.
        slope: rise per metre in x and y, (2,).
        waves: amplitude, wave numbers kx and ky, phase, (K, 4).
        street: the street whose kerbs raise the ground.
    """

    base: float
    slope: np.ndarray
    waves: np.ndarray
    street: Street

    def height(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Ground height at x, y (metres, any shape)."""
        z = self.base + self.slope[0] * x + self.slope[1] * y
        for amplitude, kx, ky, phase in self.waves:
            z = z + amplitude * np.sin(kx * x + ky * y + phase)
        return z + self.street.kerb * ~self.street.on_road(x, y)

    def distance(self, rays: np.ndarray, max_range: float) -> np.ndarray:
        """Metres along unit directions (R, 3) to the ground, inf beyond ``max_range``."""
        down = np.minimum(rays[:, 2], -1e-4)
        t = self.base / down
        for _ in range(4):
            t = np.minimum(t, 2 * max_range)
            t = np.maximum(self.height(t * rays[:, 0], t * rays[:, 1]) / down, 0.1)
        return np.where((t < max_range) & (rays[:, 2] < -1e-4), t, np.inf)

    def plane(self) -> np.ndarray:
        """The road as a plane n.x + d = 0 in the LiDAR frame, n unit and up, (4,)."""
        normal = np.array([-self.slope[0], -self.slope[1], 1.0])
        return np.append(normal, -self.base) / np.linalg.norm(normal)


@dataclass(frozen=True)
class Street:
    """A straight street and at most one crossing, in coordinates (s along, l to the left).

    Attributes:
        heading: of the street in the LiDAR frame, radians.
        shift: distance of its middle to the left of the sensor, metres.
        half: half width of the carriageway, metres.
        pavement: width of the pavements, metres.
        kerb: height of the pavements over the road, metres.
        crossing: s of a crossing road's middle, None without one.
        crossing_half: its half width, metres.
    """

    heading: float
    shift: float
    half: float
    pavement: float
    kerb: float
    crossing: float | None
    crossing_half: float

    def world(self, s: np.ndarray, across: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """LiDAR x, y of street coordinates in metres."""
        c, sin = np.cos(self.heading), np.sin(self.heading)
        left = across + self.shift
        return s * c - left * sin, s * sin + left * c

    def on_road(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Whether x, y lie on a carriageway."""
        c, sin = np.cos(self.heading), np.sin(self.heading)
        on = np.abs(c * y - sin * x - self.shift) < self.half
        if self.crossing is not None:
            on = on | (np.abs(c * x + sin * y - self.crossing) < self.crossing_half)
        return on

    def in_crossing(self, s: float, margin: float = 0.0) -> bool:
        """Whether s lies within the crossing road widened by ``margin`` metres."""
        return self.crossing is not None and abs(s - self.crossing) < self.crossing_half + margin


def draw_street(rng: _Rng) -> Street:
    """Draws a street; the sensor drives in its right half."""
    half = rng.uniform(3.4, 6.8)
    return Street(
        heading=rng.normal(0, 0.12),
        shift=half * rng.uniform(0.2, 0.55),
        half=half,
        pavement=rng.uniform(1.8, 4.5),
        kerb=rng.uniform(0.05, 0.15),
        crossing=rng.uniform(12, 42) if rng.random() < 0.45 else None,
        crossing_half=rng.uniform(2.8, 5.0),
    )


def draw_ground(rng: _Rng, street: Street, height: float) -> Ground:
    """Draws the ground below a sensor mounted at ``height`` metres."""
    waves = np.column_stack(
        [
            rng.uniform(0.0, 0.02, 3),
            rng.uniform(-0.25, 0.25, (3, 2)),
            rng.uniform(0, 2 * np.pi, 3),
        ]
    )
    return Ground(-height + rng.normal(0, 0.02), rng.normal(0, 0.003, 2), waves, street)


@dataclass
class Footprints:
    """Rectangles on the ground that are taken: x, y, half length, half width, yaw."""

    taken: list[tuple[float, float, float, float, float]] = field(default_factory=list)

    def add(self, x: float, y: float, length: float, width: float, yaw: float) -> None:
        """Takes a rectangle of ``length`` x ``width`` metres."""
        self.taken.append((x, y, length / 2, width / 2, yaw))

    def free(self, x: float, y: float, length: float, width: float, yaw: float, gap: float) -> bool:
        """Whether a rectangle keeps ``gap`` metres to all taken ones (separating axes)."""
        if not self.taken:
            return True
        ox, oy, ol, ow, oyaw = np.array(self.taken).T
        dx, dy = ox - x, oy - y
        half_l, half_w = length / 2 + gap, width / 2 + gap
        near = np.hypot(dx, dy) < np.hypot(ol, ow) + np.hypot(half_l, half_w)
        if not near.any():
            return True
        dx, dy, ol, ow, oyaw = dx[near], dy[near], ol[near], ow[near], oyaw[near]
        turn = oyaw - yaw
        c, s = np.abs(np.cos(turn)), np.abs(np.sin(turn))
        ca, sa, co, so = np.cos(yaw), np.sin(yaw), np.cos(oyaw), np.sin(oyaw)
        apart = np.abs(dx * ca + dy * sa) > half_l + ol * c + ow * s
        apart |= np.abs(dy * ca - dx * sa) > half_w + ol * s + ow * c
        apart |= np.abs(dx * co + dy * so) > ol + half_l * c + half_w * s
        apart |= np.abs(dy * co - dx * so) > ow + half_l * s + half_w * c
        return bool(apart.all())
