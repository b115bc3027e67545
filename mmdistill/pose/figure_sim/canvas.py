"""A canvas that knows what lies under each pixel.

Everything is painted at twice the resolution and without soft edges, once as
colour and once as a code, so that the code says exactly whose colour a pixel
has; the picture is the average over 2 x 2 pixels. Coordinates are those of the
final picture: the middle of its first pixel is (0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

FINE = 2
"""Painted pixels per pixel of the picture, along each axis."""
TILE = 48
"""Texels of a fabric along each axis."""
OVER = 1.3
"""Half-widths of a limb that half a tile spans: outlines may leave the limb a little."""
_SHIFT = 4
_ACROSS = (np.arange(TILE, dtype=np.float32) + 0.5) / TILE * 2 * OVER - OVER
NOTHING, OCCLUDER = 0, 255
"""Codes of the background and of things in front of people."""


@dataclass(frozen=True)
class Grain:
    """How a fabric lies on an outline.

    Attributes:
        origin: a point on the axis, pixels (2,).
        along: unit vector of the axis (2,).
        half: half-width across the axis in pixels.
        period: pixels along the axis after which the fabric repeats.
    """

    origin: np.ndarray
    along: np.ndarray
    half: float
    period: float


class Canvas:
    """Colours and codes at the fine resolution.

    Args:
        background: BGR uint8 picture (H, W, 3) to paint on.
        light: where the light comes from in the picture, its length is the strength, (2,).
    """

    def __init__(self, background: np.ndarray, light: np.ndarray) -> None:
        self.colour = cv2.resize(
            background, None, fx=FINE, fy=FINE, interpolation=cv2.INTER_NEAREST
        )
        self.codes = np.full(self.colour.shape[:2], NOTHING, np.uint8)
        self.light = np.asarray(light, np.float64)

    def _place(self, outline: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """The outline in fixed-point fine pixels (N, 2) and the window (2,), (2,) it needs."""
        points = np.asarray(outline) * FINE + (FINE - 1) / 2
        high = np.array(self.codes.shape[::-1])
        start = np.maximum(np.floor(points.min(0)).astype(int), 0)
        stop = np.minimum(np.ceil(points.max(0)).astype(int) + 1, high)
        if (start >= stop).any():
            return None
        fixed = np.round((points - start) * (1 << _SHIFT)).astype(np.int32)
        return fixed, start, stop

    def fill(self, outline: np.ndarray, colour: np.ndarray, code: int) -> None:
        """Paints a convex outline (N, 2) in one BGR colour (3,)."""
        placed = self._place(outline)
        if placed is None:
            return
        fixed, (x0, y0), (x1, y1) = placed
        value = tuple(float(c) for c in colour)
        cv2.fillConvexPoly(self.colour[y0:y1, x0:x1], fixed, value, cv2.LINE_8, _SHIFT)
        cv2.fillConvexPoly(self.codes[y0:y1, x0:x1], fixed, int(code), cv2.LINE_8, _SHIFT)

    def drape(self, outline: np.ndarray, tile: np.ndarray, grain: Grain, code: int) -> None:
        """Paints a convex outline (N, 2) with a fabric, rounded like a limb by the light.

        Args:
            outline: corners in pixels.
            tile: fabric, BGR float32 (TILE, TILE, 3), rows run along the axis.
            grain: how the fabric lies.
            code: of the pixels.
        """
        placed = self._place(outline)
        if placed is None:
            return
        fixed, start, stop = placed
        width, height = (int(n) for n in stop - start)
        mask = np.zeros((height, width), np.uint8)
        cv2.fillConvexPoly(mask, fixed, 255, cv2.LINE_8, _SHIFT)
        across = np.array([-grain.along[1], grain.along[0]])
        lit = float(across @ self.light)
        shade = 1.06 - 0.26 * _ACROSS**2 + lit * _ACROSS
        shaded = np.clip(tile * shade[:, None], 0, 255).astype(np.uint8)
        origin = grain.origin * FINE + (FINE - 1) / 2 - start
        u = across * (TILE / 2 / OVER / (grain.half * FINE))
        v = grain.along * (TILE / (grain.period * FINE))
        matrix = np.array([[*u, TILE / 2 - u @ origin], [*v, -v @ origin]])
        cloth = cv2.warpAffine(
            shaded, matrix, (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_WRAP,
        )  # fmt: skip
        window = slice(start[1], stop[1]), slice(start[0], stop[0])
        self.colour[window] = cv2.copyTo(cloth, mask, self.colour[window].copy())
        inside = mask > 0
        np.copyto(self.codes[window], np.uint8(code), where=inside)

    def picture(self) -> np.ndarray:
        """The picture at its own resolution, BGR uint8 (H, W, 3)."""
        height, width = self.codes.shape
        size = (width // FINE, height // FINE)
        return cv2.resize(self.colour, size, interpolation=cv2.INTER_AREA)

    def codes_around(self, points: np.ndarray) -> np.ndarray:
        """Codes of the 3 x 3 fine pixels around points (N, 2) inside the picture, (N, 9)."""
        middle = np.round(points * FINE + (FINE - 1) / 2).astype(int)
        offset = np.stack(np.meshgrid((-1, 0, 1), (-1, 0, 1)), -1).reshape(1, 9, 2)
        at = np.clip(middle[:, None] + offset, 0, np.array(self.codes.shape[::-1]) - 1)
        return self.codes[at[..., 1], at[..., 0]]


_CIRCLE = np.stack([f(np.linspace(0, 2 * np.pi, 14, endpoint=False)) for f in (np.cos, np.sin)], 1)


def hull(points: np.ndarray) -> np.ndarray:
    """Convex hull of points (N, 2), (M, 2)."""
    return cv2.convexHull(np.asarray(points, np.float32))[:, 0]


def disc(middle: np.ndarray, axes: np.ndarray | float) -> np.ndarray:
    """Outline of an ellipse (14, 2).

    Args:
        middle: (2,).
        axes: radius, or a matrix (2, 2) that makes the ellipse out of the unit circle.
    """
    if np.ndim(axes) == 0:
        return middle + _CIRCLE * axes
    return middle + _CIRCLE @ np.asarray(axes).T


def capsule(start: np.ndarray, stop: np.ndarray, first: float, last: float) -> np.ndarray:
    """Outline of a limb (M, 2) from ``start`` to ``stop`` with these radii at its ends."""
    return hull(np.concatenate([disc(start, first), disc(stop, last)]))
