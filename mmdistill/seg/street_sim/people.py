"""Pedestrians, riders and what they ride: rows of limbs.

A limb is its local start and stop (ahead, to the right, up) and both radii, in metres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .brush import Brush, Place
from .classes import BICYCLE, MOTORCYCLE, PERSON, RIDER

_BICYCLE = np.array([
    (-0.53, 0, 0.35, -0.18, 0, 0.82, 0.035, 0.035), (-0.53, 0, 0.35, -0.05, 0, 0.32, 0.035, 0.035),
    (-0.05, 0, 0.32, -0.2, 0, 0.92, 0.035, 0.035), (-0.05, 0, 0.32, 0.36, 0, 0.82, 0.035, 0.035),
    (-0.16, 0, 0.8, 0.36, 0, 0.82, 0.035, 0.035), (0.53, 0, 0.35, 0.34, 0, 1.0, 0.035, 0.035),
    (0.34, -0.27, 1.02, 0.34, 0.27, 1.02, 0.03, 0.03), (-0.32, 0, 0.95, -0.1, 0, 0.95, 0.05, 0.05),
])  # fmt: skip
_MOTORCYCLE = np.array([
    (-0.2, 0, 0.45, 0.25, 0, 0.45, 0.2, 0.2), (-0.75, 0, 0.78, -0.1, 0, 0.75, 0.13, 0.13),
    (0.0, 0, 0.8, 0.35, 0, 0.85, 0.17, 0.17), (0.68, 0, 0.35, 0.42, 0, 1.0, 0.06, 0.06),
    (0.4, -0.36, 1.05, 0.4, 0.36, 1.05, 0.05, 0.05), (0.55, 0, 0.9, 0.5, 0, 1.1, 0.12, 0.12),
])  # fmt: skip


@dataclass(frozen=True)
class Pedestrian:
    """Somebody on foot.

    Attributes:
        place: where, and the direction of the walk.
        tall: height in metres.
        stride: half the length of the step in metres.
        coat: whether a coat hides the thighs.
    """

    place: Place
    tall: float
    stride: float
    coat: bool = False

    @property
    def footprint(self) -> np.ndarray:
        """Corners (4, 2)."""
        return self.place.footprint(0.25, 0.25)

    def paint(self, brush: Brush) -> None:
        """Paints legs, arms, trunk and head."""
        pick, place, s = brush.look.pick, self.place, self.stride
        brush.shadow(place, 0.35, 0.35)
        hem = 0.6 if self.coat else 0.95
        limbs = np.array([
            (s, 0.1, 0.06, 0.3 * s, 0.1, 0.48, 0.06, 0.08),
            (0.3 * s, 0.1, 0.48, 0, 0.09, 0.9, 0.08, 0.11),
            (-s, -0.1, 0.06, -0.3 * s, -0.1, 0.48, 0.06, 0.08),
            (-0.3 * s, -0.1, 0.48, 0, -0.09, 0.9, 0.08, 0.11),
            (-0.5 * s, 0.26, 0.85, 0, 0.22, 1.38, 0.05, 0.07),
            (0, 0, hem, 0.02, 0, 1.34, 0.18, 0.2),
            (0.5 * s, -0.26, 0.85, 0, -0.22, 1.38, 0.05, 0.07),
        ])  # fmt: skip
        k = self.tall / 1.75
        top, legs = pick('cloth'), pick('trousers')
        colours = np.stack([legs, legs, legs, legs, top * 0.85, top, top * 0.92])
        brush.limbs(place, limbs * k, colours, PERSON)
        head = np.array([(0.03, 0, 1.63, 0.11, 0.14), (0.02, 0, 1.68, 0.115, 0.1)])
        brush.balls(place, head * k, np.stack([pick('skin'), pick('hair')]), PERSON)


@dataclass(frozen=True)
class TwoWheeler:
    """A bicycle or motorcycle, with a rider or parked.

    Attributes:
        place: of its middle.
        motor: whether it is a motorcycle.
        rider: whether somebody rides it.
    """

    place: Place
    motor: bool
    rider: bool

    @property
    def footprint(self) -> np.ndarray:
        """Corners (4, 2)."""
        return self.place.footprint(0.95, 0.3)

    def paint(self, brush: Brush) -> None:
        """Paints the machine, then who rides it."""
        pick = brush.look.pick
        brush.shadow(self.place, 1.0, 0.35)
        if self.motor:
            self._wheels(brush, 0.68, 0.32, 0.08, MOTORCYCLE)
            body, metal, seat = pick('motor'), pick('metal'), pick('tyre')
            colours = np.stack([metal, seat, body, metal, metal, body])
            brush.limbs(self.place, _MOTORCYCLE, colours, MOTORCYCLE)
        else:
            self._wheels(brush, 0.53, 0.35, 0.035, BICYCLE)
            colours = np.tile(pick('cycle'), (len(_BICYCLE), 1))
            brush.limbs(self.place, _BICYCLE, colours, BICYCLE)
        if self.rider:
            self._paint_rider(brush)

    def _wheels(self, brush: Brush, base: float, radius: float, thick: float, label: int) -> None:
        """Paints both wheels, the farther one first; what is within counts as the wheel."""
        tyre, hub = brush.look.pick('tyre'), brush.look.pick('metal')
        for a in (base, -base) if math.cos(self.place.yaw) > 0 else (-base, base):
            middle = np.array([a, 0, radius])
            for r, colour in ((radius, tyre), (0.78 * radius, hub)):
                brush.wheel(self.place, middle, r, thick, colour, label)

    def _paint_rider(self, brush: Brush) -> None:
        """Paints legs, trunk, arms and head."""
        pick = brush.look.pick
        top, legs, skin = pick('cloth'), pick('trousers'), pick('skin')
        cap = pick('cloth' if self.motor else 'hair')
        seat, foot = (0.88, 0.35) if self.motor else (1.0, 0.3)
        limbs = []
        for side, shift in ((-1, 0.12), (1, -0.06)):
            knee = (0.22, 0.14 * side, (seat + foot) / 2 + shift)
            limbs.append((0.0, 0.13 * side, foot + shift, *knee, 0.06, 0.08))
            limbs.append((*knee, -0.2, 0.1 * side, seat, 0.09, 0.11))
        limbs.append((-0.2, 0, seat + 0.05, 0.05, 0, seat + 0.5, 0.16, 0.19))
        for side in (-1, 1):
            limbs.append((0.05, 0.2 * side, seat + 0.5, 0.36, 0.27 * side, 1.04, 0.07, 0.05))
        colours = np.stack([legs] * 4 + [top] + [top * 0.9] * 2)
        brush.limbs(self.place, np.array(limbs), colours, RIDER)
        head = np.array([(0.12, 0, seat + 0.78, 0.11, 0.14), (0.11, 0, seat + 0.83, 0.125, 0.11)])
        brush.balls(self.place, head, np.stack([skin, cap]), RIDER)
