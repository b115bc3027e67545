"""Paints a head from any direction: hair, ears, eyes, nose, mouth, beard and glasses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .canvas import Grain, capsule, disc, hull
from .fabric import Outfit
from .parts import Part, Stroke
from .skeleton import SIDES, Body, Posed


def _sphere(count: int = 110) -> np.ndarray:
    """Points spread evenly over the unit sphere, (count, 3)."""
    k = np.arange(count) + 0.5
    y = 1 - 2 * k / count
    angle = np.pi * (1 + 5**0.5) * k
    r = np.sqrt(1 - y * y)
    return np.stack([r * np.cos(angle), y, r * np.sin(angle)], 1)


_SPHERE = _sphere()
_HAIR_TOWARDS = np.array([0.0, 0.78, -0.62])
_HAT_TOWARDS = np.array([0.0, 0.98, -0.2])


class _Head:
    """Collects the strokes of one head."""

    def __init__(
        self, body: Body, posed: Posed, outfit: Outfit, view: Callable[[np.ndarray], np.ndarray]
    ) -> None:
        self.radii, self.posed, self.outfit, self.view = body.head_radii(), posed, outfit, view
        self.scale = float(view.size(posed.head[2]))
        self.depth = float(posed.head[2])
        self.strokes: list[Stroke] = []

    def at(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 3) in head radii to the camera's axes."""
        return self.posed.head + (np.asarray(points) * self.radii) @ self.posed.skull.T

    def looks(self, normal: np.ndarray) -> float:
        """Cosine between the view and a direction of the head."""
        return float(self.posed.skull[2] @ normal)

    def spot(
        self, point: tuple[float, float, float], size: tuple[float, float], colour: np.ndarray,
        over: float, squeeze: float, part: int = Part.HEAD,
    ) -> None:  # fmt: skip
        """Adds an ellipse on the skin; ``size`` is in head widths, ``squeeze`` narrows it."""
        tilt = self.posed.skull[:2, :2] * ((1,), (-1,))
        axes = tilt @ np.diag([size[0], size[1]]) * self.radii[0] * self.scale
        axes[:, 0] = axes[:, 0] * max(squeeze, 0.3) / max(np.hypot(*tilt[:, 0]), 0.3)
        outline = disc(self.view(self.at(point)), axes)
        self.strokes.append(Stroke(self.depth + over, outline, part, colour))

    def skull(self) -> None:
        """The head itself and its jaw."""
        tile, middle = self.outfit.skin_tile, self.view(self.posed.head)
        points = np.concatenate([_SPHERE, (0, -0.25, 0.16) + _SPHERE * (0.72, 0.84, 0.8)])
        grain = Grain(middle, np.array([0.0, 1.0]), self.radii[2] * self.scale * 1.1, 60.0)
        outline = hull(self.view(self.at(points)))
        self.strokes.append(Stroke(self.depth, outline, Part.HEAD, tile, grain))

    def hair(self) -> None:
        """A cap of hair or a hat, and long hair down to the shoulders."""
        style = self.outfit.hair_style
        if style == 'bald':
            return
        hat = style == 'hat'
        towards, limit = (_HAT_TOWARDS, 0.12) if hat else (_HAIR_TOWARDS, 0.02)
        cap = _SPHERE[_SPHERE @ towards > limit] * (1.13 if hat else 1.1)
        points = self.at(cap)
        middle = self.view(self.posed.head)
        grain = Grain(middle, np.array([0.0, 1.0]), self.radii[2] * self.scale * 1.3, 25.0)
        tile = self.outfit.hair
        back = Stroke(self.depth - 0.01, hull(self.view(points)), Part.HAIR, tile, grain)
        self.strokes.append(back)
        front = points[(cap @ self.posed.skull.T)[:, 2] > -0.05]
        if len(front) > 3:
            stroke = Stroke(self.depth + 0.02, hull(self.view(front)), Part.HAIR, tile, grain)
            self.strokes.append(stroke)
        if hat:
            brim = _SPHERE * (1.1, 0.1, 0.75) + (0, 0.42, 0.75)
            over = 0.025 if self.looks(np.array([0, 0, 1.0])) > -0.3 else -0.02
            outline = hull(self.view(self.at(brim)))
            self.strokes.append(Stroke(self.depth + over, outline, Part.HAIR, tile * 0.8, grain))
        elif style == 'long':
            tail = np.concatenate([_SPHERE * (1.05, 0.9, 0.5) + (0, 0.1, -0.62),
                                   _SPHERE * (0.95, 0.3, 0.4) + (0, -1.6, -0.6)])  # fmt: skip
            fall = self.at(tail)
            depth = self.depth + 0.09 * self.looks(np.array([0, 0, -1.0]))
            self.strokes.append(Stroke(depth, hull(self.view(fall)), Part.HAIR, tile, grain))

    def ears(self) -> None:
        """Both ears; the far one goes behind the head."""
        for k, side in enumerate(SIDES):
            turned = self.looks(np.array([side, 0, -0.1]))
            over = 0.022 if turned > 0.25 and self.outfit.hair_style != 'long' else -0.004
            colour = self.outfit.skin * 0.86
            size = (0.12 + 0.2 * abs(turned), 0.36)
            self.spot((side * 1.02, 0.0, -0.08), size, colour, over, 1.0, Part.EAR[k])

    def face(self) -> None:
        """What lies on the front of the head, where it is turned to the camera."""
        look, skin = self.outfit, self.outfit.skin
        front = self.looks(np.array([0, 0, 1.0]))
        lip = skin * (0.62, 0.55, 0.8)
        hair = look.hair.mean((0, 1)) * 0.8
        if look.beard and front > -0.3:
            chin = _SPHERE * (0.72, 0.45, 0.75) + (0, -0.68, 0.28)
            outline = hull(self.view(self.at(chin)))
            self.strokes.append(Stroke(self.depth + 0.004, outline, Part.HEAD, hair))
        if front > 0.05:
            self.spot((0, -0.55, 0.93), (0.32, 0.09), lip, 0.006, front)
        for side in SIDES:
            turned = self.looks(np.array([0.45 * side, 0, 0.9]))
            if turned <= 0.05:
                continue
            where = (side * 0.4, 0.12, 0.9)
            self.spot(where, (0.2, 0.13), np.array([235, 235, 235]), 0.006, turned)
            self.spot(where, (0.1, 0.12), look.eyes, 0.007, turned)
            self.spot((side * 0.4, 0.32, 0.9), (0.25, 0.05), hair, 0.007, turned)
            if look.glasses:
                self.spot((side * 0.42, 0.1, 0.95), (0.3, 0.24), np.array([30, 30, 30]), 0.008,
                          turned)  # fmt: skip
        if front > -0.1:
            bridge, tip = self.view(self.at(((0, 0.12, 0.98), (0, -0.14, 1.12))))
            wide = self.radii[0] * self.scale
            nose = capsule(bridge, tip, 0.07 * wide, 0.19 * wide)
            self.strokes.append(Stroke(self.depth + 0.009, nose, Part.HEAD, skin * 0.85))


def paint_order(
    body: Body, posed: Posed, outfit: Outfit, view: Callable[[np.ndarray], np.ndarray]
) -> list[Stroke]:
    """The strokes of a head.

    Args:
        body: whose head.
        posed: where it is.
        outfit: what it looks like.
        view: projects points to pixels and knows its ``size`` at a depth.
    """
    head = _Head(body, posed, outfit, view)
    head.skull()
    head.hair()
    head.ears()
    head.face()
    return head.strokes
