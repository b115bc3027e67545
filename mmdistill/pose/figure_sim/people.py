"""Paints a posed person: trunk, limbs, clothes and head as outlines, the farthest first."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .canvas import OCCLUDER, Canvas, Grain, capsule, hull
from .fabric import Outfit
from .heads import paint_order as head_strokes
from .parts import EMPTY, Part, Stroke, code_of
from .skeleton import Body, Pose, Posed, pose_body

_RING = np.stack([f(np.linspace(0, 2 * np.pi, 10, endpoint=False)) for f in (np.cos, np.sin)], 1)


@dataclass(frozen=True)
class View:
    """A camera in front of one person.

    Attributes:
        origin: where the middle of the hips is, pixels (2,).
        scale: pixels per metre at that depth.
        distance: metres from the camera to the hips.
    """

    origin: np.ndarray
    scale: float
    distance: float

    def size(self, depth: np.ndarray | float) -> np.ndarray | float:
        """Pixels per metre at a depth, metres towards the camera from the hips."""
        return self.scale / (1 - np.minimum(depth / self.distance, 0.6))

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Pixels (..., 2) of points (..., 3) in the camera's axes."""
        return self.origin + points[..., :2] * (1, -1) * self.size(points[..., 2:])


@dataclass(frozen=True)
class Person:
    """One person in front of the camera.

    Attributes:
        body: proportions.
        pose: angles.
        outfit: looks.
        view: where the camera sees the person.
        seat: BGR (3,) of a seat below the hips, None without one.
    """

    body: Body
    pose: Pose
    outfit: Outfit
    view: View
    seat: np.ndarray | None = None

    @cached_property
    def posed(self) -> Posed:
        """The points of the body."""
        return pose_body(self.body, self.pose)

    @cached_property
    def joints(self) -> np.ndarray:
        """COCO's joints in pixels, (17, 2)."""
        return self.view(self.posed.joints)


def _between(start: np.ndarray, stop: np.ndarray, share: float) -> np.ndarray:
    """The point (3,) at a share of the way."""
    return start + (stop - start) * share


class _Dresser:
    """Collects the strokes of one person."""

    def __init__(self, person: Person) -> None:
        self.person, self.posed, self.view = person, person.posed, person.view
        self.h, self.wide = person.body.height, person.body.build
        self.strokes: list[Stroke] = []

    def limb(
        self, part: int, start: np.ndarray, stop: np.ndarray, radii: tuple[float, float],
        tile: np.ndarray, depth: float,
    ) -> None:  # fmt: skip
        """Adds a tapered limb between two points (3,); radii and depth in metres."""
        first, last = (
            float(self.view.size(p[2])) * r for p, r in ((start, radii[0]), (stop, radii[1]))
        )
        a, b = self.view(start), self.view(stop)
        span = b - a
        length = float(np.hypot(*span))
        along = span / length if length > 1e-3 else np.array([0.0, 1.0])
        grain = Grain(a, along, max(first, last), 0.3 * self.h * self.view.scale)
        self.strokes.append(Stroke(depth, capsule(a, b, first, last), part, tile, grain))

    def volume(self, part: int, points: np.ndarray, tile: np.ndarray, over: float) -> None:
        """Adds the hull of points (N, 3), with the fabric along the trunk."""
        flat = self.view(points)
        middle = points.mean(0)
        up = self.view(middle + self.posed.trunk[:, 1] * 0.1) - self.view(middle)
        length = float(np.hypot(*up))
        along = -up / length if length > 1e-3 else np.array([0.0, 1.0])
        centre = self.view(middle)
        across = np.array([-along[1], along[0]])
        half = float(np.abs((flat - centre) @ across).max()) + 1e-3
        grain = Grain(centre, along, half, 0.34 * self.h * self.view.scale)
        self.strokes.append(Stroke(float(middle[2]) + over, hull(flat), part, tile, grain))

    def ring(self, centre: np.ndarray, turn: np.ndarray, wide: float, deep: float) -> np.ndarray:
        """A horizontal ellipse (10, 3) around a point of the trunk; half-axes in statures."""
        flat = np.stack([_RING[:, 0] * wide, np.zeros(len(_RING)), _RING[:, 1] * deep], 1)
        return centre + (flat * self.h) @ turn.T

    def trunk(self) -> None:
        """Shirt, hips, neck and, where worn, a skirt."""
        p, look, h = self.posed, self.person.outfit, self.h
        w = self.wide * (0.93 + 0.1 * look.loose)
        spine = p.trunk[:, 1]
        width = self.person.body.shoulders
        chest = p.waist + spine * (0.12 * h)
        top = p.waist + spine * (0.195 * h)
        girdle = self.ring(top, p.trunk, 0.105 * width, 0.03)
        mid = self.ring(chest, p.trunk, 0.094 * width * (0.6 + 0.4 * w), 0.062 * w)
        belly = self.ring(p.waist, p.pelvis, 0.08 * w, 0.058 * w)
        hem = self.ring(p.pelvis[:, 1] * (0.03 * h), p.pelvis, 0.087 * w, 0.06 * w)
        seat = self.ring(-p.pelvis[:, 1] * (0.03 * h), p.pelvis, 0.088 * w, 0.062 * w)
        collar = self.ring(p.neck + spine * (0.006 * h), p.trunk, 0.04, 0.03)
        shirt = np.concatenate([collar, girdle, mid, belly, hem])
        self.volume(Part.TORSO, shirt, look.top.trunk, 0.012 * h)
        self.volume(Part.PELVIS, np.concatenate([hem, seat]), look.bottom.trunk, 0.0)
        nape, skull = p.neck - spine * (0.01 * h), p.head - spine * (0.02 * h)
        radii = (0.033 * h * self.wide, 0.03 * h * self.wide)
        self.limb(Part.NECK, nape, skull, radii, look.skin_tile, float(p.neck[2]) - 0.005 * h)
        if look.skirt:
            knees = [_between(p.joints[11 + k], p.joints[13 + k], look.skirt) for k in (0, 1)]
            rings = [self.ring(knee, p.pelvis, 0.065 * w, 0.06 * w) for knee in knees]
            self.volume(Part.SKIRT, np.concatenate([hem, *rings]), look.bottom.trunk, 0.006 * h)

    def covered(
        self, parts: tuple[int, int], ends: np.ndarray, radii: tuple[float, ...],
        share: float, cloth: np.ndarray,
    ) -> None:  # fmt: skip
        """Adds both halves of an arm or leg, skin below cloth.

        Args:
            parts: upper and lower part.
            ends: upper, middle and lower joint, (3, 3).
            radii: at these, and at the upper end of the lower part, in statures.
            share: of the limb that the cloth covers, 0 to 2.
            cloth: fabric.
        """
        look, h = self.person.outfit, self.h
        for k in (0, 1):
            first, last = (r * h * self.wide for r in radii[2 * k : 2 * k + 2])
            part = min(max(share - k, 0.0), 1.0)
            start, stop = ends[k], ends[k + 1]
            depth = float(start[2] + stop[2]) / 2
            if part < 1:
                self.limb(parts[k], start, stop, (first, last), look.skin_tile, depth)
            if part > 0:
                hem = first + (last - first) * part
                loose = (first * look.loose, hem * look.loose)
                reach = _between(start, stop, part)
                self.limb(parts[k], start, reach, loose, cloth, depth + 0.003 * h)

    def arm(self, k: int) -> None:
        """One arm with its hand, 0 for the left."""
        p, look = self.posed, self.person.outfit
        ends = p.joints[[5 + k, 7 + k, 9 + k]]
        parts = (Part.UPPER_ARM[k], Part.FOREARM[k])
        radii = (0.031, 0.025, 0.025, 0.017)
        self.covered(parts, ends, radii, look.sleeve, look.top.limb)
        wide = 0.019 * self.h * self.wide
        depth = float(ends[2, 2] + p.hands[k, 2]) / 2
        self.limb(Part.HAND[k], ends[2], p.hands[k], (0.8 * wide, wide), look.skin_tile, depth)

    def leg(self, k: int) -> None:
        """One leg with its shoe, 0 for the left."""
        p, look = self.posed, self.person.outfit
        ends = p.joints[[11 + k, 13 + k, 15 + k]]
        parts = (Part.THIGH[k], Part.SHIN[k])
        radii = (0.05, 0.034, 0.034, 0.021)
        self.covered(parts, ends, radii, look.leg, look.bottom.limb)
        wide = 0.022 * self.h
        tile = np.broadcast_to(look.shoes, look.skin_tile.shape)
        depth = float(p.heels[k, 2] + p.toes[k, 2]) / 2
        self.limb(Part.FOOT[k], p.heels[k], p.toes[k], (wide, 0.8 * wide), tile, depth)

    def seat(self) -> None:
        """What a sitting person sits on; it is not part of the person."""
        if self.person.seat is None:
            return
        p, h = self.posed, self.h
        below = -0.055 * h * self.wide
        floor = min(float(p.heels[:, 1].min()), below - 0.15 * h) - 0.02 * h
        wide = 0.16 * h
        x = np.array([-wide, wide, wide, -wide])
        y = np.array([below, below, floor, floor])
        corners = np.stack([x, y, np.full(4, -0.06 * h)], 1)
        tile = np.broadcast_to(self.person.seat, self.person.outfit.skin_tile.shape)
        grain = Grain(self.view(corners[0]), np.array([0.0, 1.0]), wide * self.view.scale * 1.2, 40)
        self.strokes.append(Stroke(-0.03 * h, self.view(corners), EMPTY, tile, grain))


def strokes_of(person: Person) -> list[Stroke]:
    """All outlines of a person, the farthest first."""
    dresser = _Dresser(person)
    dresser.seat()
    dresser.trunk()
    for k in (0, 1):
        dresser.arm(k)
        dresser.leg(k)
    strokes = dresser.strokes + head_strokes(person.body, person.posed, person.outfit, person.view)
    return sorted(strokes, key=lambda stroke: stroke.depth)


def draw_person(canvas: Canvas, person: Person, number: int) -> None:
    """Paints a person over what the canvas holds.

    Args:
        canvas: to paint on.
        person: whom to paint.
        number: of the person within the picture, 0 to 5; it becomes part of the codes.
    """
    for stroke in strokes_of(person):
        code = OCCLUDER if stroke.part == EMPTY else code_of(number, stroke.part)
        if stroke.grain is None:
            canvas.fill(stroke.outline, stroke.paint, code)
        else:
            canvas.drape(stroke.outline, stroke.paint, stroke.grain, code)
