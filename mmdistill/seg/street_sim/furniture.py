"""Poles with lamps, traffic lights and signs, and things without a class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .brush import Brush, Place
from .canvas import disc
from .classes import POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN, VOID

_BOX = np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])
_SIGNS = {
    'round': (disc(np.zeros(2), 0.38), 0.66),
    'triangle': (np.array([(-0.44, -0.32), (0.44, -0.32), (0.0, 0.46)]), 0.62),
    'square': (_BOX * 0.36, 0.86),
    'board': (_BOX * (0.75, 0.42), 0.9),
}
SIGNS = tuple(_SIGNS)
"""Shapes of traffic signs."""


@dataclass(frozen=True)
class Pole:
    """A pole and what hangs on it.

    Attributes:
        place: of its foot.
        tall: height in metres.
        arm: reach of an arm at the top in metres, to the right if positive; 0 without.
        lights: whether traffic lights hang on it.
        sign: one of :data:`SIGNS`, or empty.
        wide: radius in metres.
    """

    place: Place
    tall: float
    arm: float = 0.0
    lights: bool = False
    sign: str = ''
    wide: float = 0.08

    @property
    def footprint(self) -> np.ndarray:
        """Corners (4, 2)."""
        return self.place.footprint(0.15, 0.15)

    def _flat(self, brush: Brush, middle, outline: np.ndarray, colour, label: int) -> None:
        """Paints a polygon (N, 2) that faces the camera around (right, up), metres."""
        corners = np.zeros((1, len(outline), 3))
        corners[0, :, 1:] = outline + np.asarray(middle)
        brush.patches(self.place, corners, colour[None], label)

    def paint(self, brush: Brush) -> None:
        """Paints the pole, then what hangs on it."""
        tall, arm = self.tall, self.arm
        limbs = [(0, 0, 0, 0, 0, tall, self.wide, 0.75 * self.wide)]
        if arm:
            limbs.append((0, 0, tall, 0, arm, tall + 0.15, 0.06, 0.06))
        if arm and not self.lights:
            limbs.append((0, 0.75 * arm, tall + 0.12, 0, arm, tall + 0.15, 0.1, 0.1))
        colours = np.tile(brush.look.pick('pole'), (len(limbs), 1))
        brush.limbs(self.place, np.array(limbs), colours, POLE)
        if self.lights:
            self._paint_lights(brush, 0.0, min(tall - 0.5, 2.9))
            if arm:
                self._paint_lights(brush, arm, tall - 0.25)
        if self.sign:
            self._paint_sign(brush)

    def _paint_lights(self, brush: Brush, right: float, up: float) -> None:
        """Paints a case with three lamps, one of them lit."""
        look = brush.look
        case, red = look.pick('lamp_case'), look.draw(0, 1) < 0.5
        self._flat(brush, (right, up), _BOX * (0.24, 0.62), case, TRAFFIC_LIGHT)
        balls = [(0, right, up + step, 0.15, 0.15) for step in (0.39, 0, -0.39)]
        colours = np.stack([case * 0.6] * 3)
        colours[0 if red else 2] = look.pick('red' if red else 'green')
        brush.balls(self.place, np.array(balls), colours, TRAFFIC_LIGHT)

    def _paint_sign(self, brush: Brush) -> None:
        """Paints a plate with a rim, or one of two similar colours."""
        rim, plate = brush.look.pick('sign'), brush.look.pick('plate')
        outline, inner = _SIGNS[self.sign]
        middle = 0, self.tall - 0.35
        if inner > 0.8:
            plate = (rim + plate) / 2
        self._flat(brush, middle, outline, rim, TRAFFIC_SIGN)
        self._flat(brush, middle, outline * inner, plate, TRAFFIC_SIGN)


@dataclass(frozen=True)
class Clutter:
    """A bin or a box, which has no class.

    Attributes:
        place: of its middle.
        half: half its length, half its width and its height in metres.
    """

    place: Place
    half: tuple[float, float, float]

    @property
    def footprint(self) -> np.ndarray:
        """Corners (4, 2)."""
        return self.place.footprint(*self.half[:2])

    def paint(self, brush: Brush) -> None:
        """Paints the box and the shade below it."""
        ahead, wide, tall = self.half
        brush.shadow(self.place, 1.3 * ahead, 1.3 * wide)
        profile = np.array([(-ahead, 0), (ahead, 0), (ahead, tall), (-ahead, tall)])
        brush.prism(self.place, profile, wide, np.tile(brush.look.pick('stuff'), (5, 1)), VOID)
