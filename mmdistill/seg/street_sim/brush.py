"""Paints solids of the world on a canvas: what all things are made of."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .camera import NEAR, Camera
from .canvas import Canvas, capsules, disc, hull
from .looks import Look

_RECTANGLE = np.array([(-1, -1, 0), (1, -1, 0), (1, 1, 0), (-1, 1, 0)])
_LIT = np.array([0.72, 0.86, 1.0])
_RING = np.stack([f(np.linspace(0, 2 * np.pi, 12, endpoint=False)) for f in (np.cos, np.sin)], 1)


@dataclass(frozen=True)
class Place:
    """Where a thing stands and where it heads.

    Attributes:
        s: metres to the right of the road's middle.
        z: metres ahead of the camera.
        yaw: heading in radians, 0 away from the camera, pi / 2 to the right.
    """

    s: float
    z: float
    yaw: float = 0.0

    def world(self, local: np.ndarray) -> np.ndarray:
        """World points (..., 3) of local ones: ahead, to the right, up, metres (..., 3)."""
        sin, cos = math.sin(self.yaw), math.cos(self.yaw)
        turn = np.array([(sin, cos, 0), (cos, -sin, 0), (0, 0, 1)])
        return np.asarray(local) @ turn + (self.s, self.z, 0)

    def footprint(self, ahead: float, wide: float) -> np.ndarray:
        """Corners (4, 2) of a rectangle ``2 * ahead`` long and ``2 * wide`` wide."""
        return self.world(_RECTANGLE * (ahead, wide, 0))[:, :2]


class Brush:
    """Camera, canvas and look: paints shapes given in metres.

    Args:
        camera: who looks.
        canvas: to paint on.
        look: colours and textures.
    """

    def __init__(self, camera: Camera, canvas: Canvas, look: Look) -> None:
        self.camera, self.canvas, self.look = camera, canvas, look

    def fill(self, points: np.ndarray, colour: np.ndarray, label: int) -> None:
        """Paints a flat polygon of world points (N, 3) in a BGR colour (3,)."""
        z = float(np.mean(points[..., 1]))
        self.canvas.fill(self.camera.project(points), self.look.air(colour, z), label)

    def limbs(self, place: Place, limbs: np.ndarray, colours: np.ndarray, label: int) -> None:
        """Paints round limbs of a thing, one after the other.

        Args:
            place: of the thing.
            limbs: local start (3,), local stop (3,) and both radii in metres, (N, 8).
            colours: BGR (N, 3).
            label: train id.
        """
        world = place.world(limbs[:, :6].reshape(-1, 2, 3))
        pixels = self.camera.project(world)
        scale = self.camera.focal / np.maximum(world[..., 1], NEAR)
        outlines = capsules(pixels[:, 0], pixels[:, 1], limbs[:, 6:] * scale)
        self.canvas.fill_each(outlines, self.look.air(colours, place.z), label)

    def balls(self, place: Place, balls: np.ndarray, colours: np.ndarray, label: int) -> None:
        """Paints upright ellipses, one after the other.

        Args:
            place: of the thing.
            balls: local middle (3,) and the radii across and up in metres, (N, 5).
            colours: BGR (N, 3).
            label: train id.
        """
        world = place.world(balls[:, :3])
        scale = self.camera.focal / np.maximum(world[:, 1], NEAR)
        radii = balls[:, 3:] * scale[:, None]
        outlines = disc(self.camera.project(world)[:, None], radii[:, None])
        self.canvas.fill_each(outlines, self.look.air(colours, place.z), label)

    def wheel(
        self, place: Place, middle: np.ndarray, radius: float, thick: float, colour, label: int
    ) -> None:
        """Paints an upright wheel around a local point (3,), ``2 * thick`` metres thick."""
        ring = np.column_stack([_RING[:, 0], np.zeros(len(_RING)), _RING[:, 1]]) * radius
        points = middle + np.concatenate([ring + (0, thick, 0), ring - (0, thick, 0)])
        world = place.world(points)
        outline = hull(self.camera.project(world))
        self.canvas.fill(outline, self.look.air(colour, float(world[0, 1])), label)

    def shadow(self, place: Place, ahead: float, wide: float) -> None:
        """Darkens the ground below a thing."""
        share = self.look.contact
        angle = _RING * (ahead, wide)
        local = np.column_stack([angle, np.zeros(len(angle))])
        self.canvas.darken(self.camera.project(place.world(local)), share)

    def prism(
        self, place: Place, profile: np.ndarray, wide: float, colours, label: int, details=()
    ) -> None:
        """Paints an upright profile that is drawn out across the heading.

        Args:
            place: of the middle.
            profile: corners (N, 2), ahead and up in metres, counter-clockwise seen from the
                right-hand side of the thing.
            wide: half the width in metres.
            colours: BGR of each of the N edges and of the two sides, (N + 1, 3).
            label: train id.
            details: pairs (polygon (M, 2) on the side, BGR (3,)).
        """
        n = len(profile)
        local = np.empty((2, n, 3))
        local[..., 0], local[..., 2] = profile[:, 0], profile[:, 1]
        local[0, :, 1], local[1, :, 1] = -wide, wide
        world = place.world(local)
        pixels = self.camera.project(world)
        then = np.arange(1, n + 1) % n
        quads = np.stack([pixels[0], pixels[1], pixels[1, then], pixels[0, then]], 1)
        depth = world[..., 1].mean(0)
        depth = depth + depth[then]
        seen = np.flatnonzero(turns(quads) > 0)
        seen = seen[np.argsort(-depth[seen], kind='stable')]
        tones = colours[:n] * self._light(profile)[:, None]
        self.canvas.fill_each(quads[seen], self.look.air(tones[seen], place.z), label)
        areas = turns(pixels)
        for side, sign in ((0, -1.0), (1, 1.0)):
            if areas[side] * sign >= 0:
                continue
            tone = 0.9 + 0.1 * self.look.sun * sign * math.cos(place.yaw)
            self.canvas.fill(pixels[side], self.look.air(colours[n] * tone, place.z), label)
            if details:
                flat = np.concatenate([polygon for polygon, _ in details])
                there = np.column_stack([flat[:, 0], np.full(len(flat), sign * wide), flat[:, 1]])
                there = self.camera.project(place.world(there))
                tints = self.look.air(np.stack([colour for _, colour in details]), place.z)
                start = 0
                for (polygon, _), tint in zip(details, tints, strict=True):
                    self.canvas.fill(there[start : start + len(polygon)], tint, label)
                    start += len(polygon)

    def patches(self, place: Place, patches: np.ndarray, colours: np.ndarray, label: int) -> None:
        """Paints flat convex polygons of a thing, one after the other.

        Args:
            place: of the thing.
            patches: local corners in metres, (N, M, 3).
            colours: BGR (N, 3).
            label: train id.
        """
        pixels = self.camera.project(place.world(patches))
        self.canvas.fill_each(pixels, self.look.air(colours, place.z), label)

    @staticmethod
    def _light(profile: np.ndarray) -> np.ndarray:
        """Brightness of each edge's face by how far it looks up, (N,)."""
        run, rise = (profile[np.arange(1, len(profile) + 1) % len(profile)] - profile).T
        up = -run / np.maximum(np.hypot(run, rise), 1e-6)
        return np.interp(up, (-1, 0, 1), _LIT)


def turns(polygons: np.ndarray) -> np.ndarray:
    """Twice the signed areas of polygons (N, M, 2) in pixels, > 0 for clockwise as seen."""
    x, y = polygons[..., 0], polygons[..., 1]
    then = np.arange(1, x.shape[-1] + 1) % x.shape[-1]
    return (x * y[..., then] - x[..., then] * y).sum(-1)


def circle(a: float, y: float, radius: float) -> np.ndarray:
    """Outline (12, 2) of a circle on the side of a thing."""
    return (a, y) + _RING * radius
