"""Cars, trucks and buses: profiles drawn out across their heading."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .brush import Brush, Place, circle
from .classes import BUS, CAR, TRUCK

# ahead and up in metres, from the rear's foot: bottom, front, bonnet, windscreen, roof,
# rear window, boot, rear
_SHAPES = {
    'saloon': ((-2.25, 0.28), (2.2, 0.28), (2.25, 0.72), (1.05, 0.95), (0.35, 1.42),
               (-1.05, 1.42), (-1.65, 1.0), (-2.25, 0.95)),
    'estate': ((-2.2, 0.3), (2.1, 0.3), (2.15, 0.76), (1.15, 1.0), (0.45, 1.5),
               (-1.75, 1.5), (-2.15, 1.02), (-2.2, 0.95)),
    'van': ((-2.3, 0.32), (2.2, 0.32), (2.25, 0.85), (1.75, 1.1), (1.0, 1.95),
            (-2.15, 1.98), (-2.28, 1.2), (-2.3, 1.1)),
}  # fmt: skip
_PANES = {
    'saloon': (((0.85, 0.96), (0.3, 1.34), (-0.25, 1.35), (-0.3, 0.97)),
               ((-0.4, 0.97), (-0.35, 1.35), (-0.95, 1.35), (-1.4, 1.0))),
    'estate': (((0.95, 1.02), (0.4, 1.42), (-0.3, 1.43), (-0.3, 1.02)),
               ((-0.42, 1.02), (-0.42, 1.43), (-1.65, 1.42), (-1.9, 1.04))),
    'van': (((1.55, 1.12), (1.0, 1.82), (0.2, 1.84), (0.2, 1.12)),
            ((0.05, 1.2), (0.05, 1.84), (-1.9, 1.84), (-1.95, 1.2))),
}  # fmt: skip
CAR_SHAPES = tuple(_SHAPES)
"""Shapes of a car."""
_HALF = {'saloon': (2.3, 0.9), 'estate': (2.25, 0.9), 'van': (2.35, 0.98), 'truck': (3.9, 1.2),
         'bus': (5.6, 1.27)}  # fmt: skip


@dataclass(frozen=True)
class Vehicle:
    """A vehicle on four wheels or more.

    Attributes:
        place: of its middle.
        shape: one of :data:`CAR_SHAPES`, ``truck`` or ``bus``.
        size: factor on all lengths.
    """

    place: Place
    shape: str
    size: float = 1.0

    @property
    def half(self) -> tuple[float, float]:
        """Half the length and half the width in metres."""
        ahead, wide = _HALF[self.shape]
        return ahead * self.size, wide * self.size

    @property
    def footprint(self) -> np.ndarray:
        """Corners (4, 2)."""
        return self.place.footprint(*self.half)

    def paint(self, brush: Brush) -> None:
        """Paints the vehicle and the shade below it."""
        ahead, wide = self.half
        brush.shadow(self.place, ahead * 1.12, wide * 1.15)
        if self.shape == 'truck':
            self._paint_truck(brush)
        elif self.shape == 'bus':
            self._paint_bus(brush)
        else:
            self._paint_car(brush)

    def _box(self, brush: Brush, rear: float, front: float, low: float, high: float,
             wide: float, colour: np.ndarray, label: int, details=()) -> None:  # fmt: skip
        """Paints a box from ``rear`` to ``front`` and ``low`` to ``high``, metres."""
        profile = np.array([(rear, low), (front, low), (front, high), (rear, high)]) * self.size
        scaled = [(np.asarray(p) * self.size, c) for p, c in details]
        brush.prism(self.place, profile, wide * self.size, np.tile(colour, (5, 1)), label, scaled)

    def _wheels(self, brush: Brush, at: tuple[float, ...], radius: float) -> list:
        """Details: wheels on the side."""
        tyre, hub = brush.look.pick('tyre'), brush.look.pick('metal')
        return [(circle(a, radius, r), colour) for a in at
                for r, colour in ((radius, tyre), (0.55 * radius, hub))]  # fmt: skip

    def _ends(self, brush: Brush, where: tuple[float, float], boxes, label: int) -> None:
        """Paints what is on the end that looks at the camera.

        Args:
            brush: paints.
            where: ahead of rear and front, metres.
            boxes: for the rear and for the front (left, right, low, high, colour).
            label: train id.
        """
        away = np.cos(self.place.yaw)
        if abs(away) < 0.35:
            return
        a = where[0] if away > 0 else where[1]
        flat = [
            [(a, left, low), (a, right, low), (a, right, high), (a, left, high)]
            for left, right, low, high, _ in boxes[0 if away > 0 else 1]
        ]
        colours = np.stack([box[4] for box in boxes[0 if away > 0 else 1]])
        brush.patches(self.place, np.array(flat) * self.size, colours, label)

    def _paint_car(self, brush: Brush) -> None:
        look, shape = brush.look, self.shape
        body, glass, tyre = look.pick('car'), look.pick('glass'), look.pick('tyre')
        profile = np.array(_SHAPES[shape]) * self.size
        rear, front = _SHAPES[shape][0][0], _SHAPES[shape][2][0]
        wide = _HALF[shape][1]
        self._box(brush, rear + 0.3, front - 0.3, 0.0, 0.4, 0.92 * wide, tyre, CAR)
        colours = np.tile(body, (len(profile) + 1, 1))
        colours[0], colours[3], colours[5] = tyre, glass, glass
        details = [(np.array(pane), glass) for pane in _PANES[shape]]
        details += self._wheels(brush, (-1.35, 1.35), 0.34)
        scaled = [(polygon * self.size, colour) for polygon, colour in details]
        brush.prism(self.place, profile, wide * self.size, colours, CAR, scaled)
        tail, head = look.pick('tail'), look.pick('head')
        outer, inner, plate = wide - 0.05, wide - 0.32, look.pick('plate')
        low = 0.62 if shape != 'van' else 0.72
        lamps = [
            [(-outer, -inner, low, low + 0.2, c), (inner, outer, low, low + 0.2, c)]
            for c in (tail, head)
        ]
        lamps[0].append((-0.26, 0.26, 0.5, 0.62, plate))
        lamps[1].append((-0.5, 0.5, 0.4, 0.55, tyre))
        self._ends(brush, (rear - 0.01, front + 0.01), lamps, CAR)

    def _paint_truck(self, brush: Brush) -> None:
        look = brush.look
        cab, cargo, glass = look.pick('car'), look.pick('truck'), look.pick('glass')
        tyre = look.pick('tyre')
        wheels = self._wheels(brush, (-2.6, -1.5, 2.6), 0.48)
        self._box(brush, -3.7, 3.6, 0.15, 1.0, 1.1, tyre, TRUCK, wheels)

        def front() -> None:
            pane = ((2.3, 1.6), (3.4, 1.6), (3.4, 2.3), (2.3, 2.3))
            self._box(brush, 2.1, 3.8, 0.6, 2.6, 1.15, cab, TRUCK, [(pane, glass)])

        def load() -> None:
            self._box(brush, -3.9, 1.9, 0.95, 3.4, 1.2, cargo, TRUCK)

        for part in (front, load) if np.cos(self.place.yaw) > 0 else (load, front):
            part()
        tail = look.pick('tail')
        boxes = [
            [(-1.1, -0.8, 0.7, 0.9, tail), (0.8, 1.1, 0.7, 0.9, tail)],
            [(-1.0, 1.0, 1.55, 2.35, glass), (-0.9, 0.9, 0.7, 0.9, tyre)],
        ]
        self._ends(brush, (-3.9, 3.81), boxes, TRUCK)

    def _paint_bus(self, brush: Brush) -> None:
        look = brush.look
        body, glass = look.pick('bus'), look.pick('glass')
        details = self._wheels(brush, (-3.4, 3.3), 0.5)
        for rear in np.arange(-5.2, 4.5, 1.7):
            pane = (rear, 1.45), (rear + 1.5, 1.45), (rear + 1.5, 2.45), (rear, 2.45)
            details.append((np.array(pane), glass))
        self._box(brush, -5.6, 5.6, 0.25, 3.1, 1.27, body, BUS, details)
        tyre, tail = look.pick('tyre'), look.pick('tail')
        boxes = [
            [(-1.0, 1.0, 1.7, 2.6, glass), (-1.15, -0.8, 0.7, 1.1, tail),
             (0.8, 1.15, 0.7, 1.1, tail), (-1.1, 1.1, 0.1, 0.4, tyre)],
            [(-1.15, 1.15, 1.2, 2.6, glass), (-0.8, 0.8, 2.7, 2.95, tyre)],
        ]  # fmt: skip
        self._ends(brush, (-5.61, 5.61), boxes, BUS)
