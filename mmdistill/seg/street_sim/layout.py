"""What stands where: random scenes of a domain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .blocks import Block
from .camera import NEAR, Camera
from .ground import Ground
from .order import painters_order
from .roadside import fill_side
from .styles import STYLES, Style
from .traffic import fill_road

_Rng = np.random.Generator
FAR = 95.0
"""Where the street ends, metres ahead."""


@dataclass(frozen=True)
class Scene:
    """A street with everything on it.

    Attributes:
        camera: who looks.
        ground: what it stands on.
        things: everything that stands up, in painter's order.
        bonnet: half-width and height of the own bonnet as shares of the picture, None without.
    """

    camera: Camera
    ground: Ground
    things: tuple
    bonnet: tuple[float, float] | None = None


class Plot:
    """Things that have found a place: none stands where another does.

    Args:
        camera: things behind it or outside its view are left out.
    """

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self.things: list = []
        self._taken: list[np.ndarray] = []

    def add(self, thing, gap: float = 0.15) -> bool:
        """Places a thing unless another is nearer than ``gap`` metres or nobody sees it."""
        corners = thing.footprint
        if corners[:, 1].max() < 2.0 or not self.camera.sees(corners, 2.5):
            return False
        low, high = corners.min(0) - gap, corners.max(0) + gap
        if self._taken:
            taken = np.stack(self._taken)
            if ((low < taken[:, 1]) & (high > taken[:, 0])).all(1).any():
                return False
        self._taken.append(np.stack([low + gap, high - gap]))
        self.things.append(thing)
        return True

    def ordered(self) -> tuple:
        """All things, each after those it hides."""
        if not self.things:
            return ()
        corners = np.stack([thing.footprint for thing in self.things])
        flat = self.camera.flat(corners)
        flat[..., 1] = np.maximum(flat[..., 1], NEAR)
        return tuple(self.things[i] for i in painters_order(flat))


def _draw_ground(rng: _Rng, style: Style) -> Ground:
    """A random road and what is beside it."""
    lanes = int(rng.choice((2, 3, 4), p=style.lanes))
    wide = rng.uniform(*style.lane)
    half = lanes * wide / 2 + rng.uniform(0.3, 0.8) + style.parking * 1.0
    middle = 0.0 if lanes != 3 else -wide / 2
    lines = [middle + k * wide for k in range(-1, 2) if abs(middle + k * wide) < half - 2]
    lines = sorted(lines, key=lambda line: abs(line - middle))
    start = rng.uniform(*style.junction_at)
    return Ground(
        half=float(half),
        lanes=tuple(map(float, lines)),
        solid=bool(rng.random() < 0.3),
        verge=tuple(
            float(rng.uniform(0.8, 2.2)) if rng.random() < style.verge else 0.0 for _ in range(2)
        ),
        walk=tuple(float(rng.uniform(*style.walk)) for _ in range(2)),
        green=tuple(bool(rng.random() < style.green) for _ in range(2)),
        junction=(start, start + rng.uniform(8, 13)) if rng.random() < style.junction else None,
        zebra=bool(rng.random() < 0.6),
    )


def _draw_camera(rng: _Rng, style: Style, ground: Ground, width: int, height: int) -> Camera:
    """A random camera in the right half of the road."""
    return Camera(
        width=width,
        height=height,
        focal=float(width * rng.uniform(*style.focal)),
        horizon=float(height * np.clip(rng.normal(*style.horizon), 0.3, 0.6)),
        tall=float(rng.uniform(*style.tall)),
        offset=float(ground.half * rng.uniform(*style.offset)),
        curve=float(rng.normal(0, style.curve)),
    )


def _close(rng: _Rng, plot: Plot, ground: Ground) -> None:
    """Puts houses across the end of the street; the road leaves between them at times."""
    s = -110.0
    while s < 110:
        wide = rng.uniform(10, 24)
        if not (abs(s + wide / 2) < ground.half + wide / 2 and rng.random() < 0.5):
            tall = rng.uniform(5, 22)
            plot.add(Block('building', (s, s + wide), (FAR + 4, FAR + 12), tall, bay=3.5))
        s += wide + 0.5


def compose(rng: _Rng, domain: str, width: int, height: int) -> Scene:
    """Draws a scene.

    Args:
        rng: source of randomness.
        domain: ``source`` or ``target``.
        width: of the picture, pixels.
        height: of the picture, pixels.
    """
    style = STYLES[domain]
    ground = _draw_ground(rng, style)
    camera = _draw_camera(rng, style, ground, width, height)
    plot = Plot(camera)
    fill_road(rng, plot, ground, style, camera.offset, FAR)
    for side in (-1, 1):
        fill_side(rng, plot, ground, style, side, FAR)
    _close(rng, plot, ground)
    bonnet = None
    if rng.random() < style.bonnet:
        bonnet = float(rng.uniform(0.35, 0.6)), float(rng.uniform(0.03, 0.1))
    return Scene(camera, ground, plot.ordered(), bonnet)
