"""A canvas whose pixels carry colour and label: one stroke writes both.

It is painted at twice the resolution and without soft edges. The picture is the average
over 2 x 2 pixels, its label the one that most of the four have.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

FINE = 2
"""Painted pixels per pixel of the picture, along each axis."""
_SHIFT = 4
_CIRCLE = np.stack([f(np.linspace(0, 2 * np.pi, 12, endpoint=False)) for f in (np.cos, np.sin)], 1)
_ARC = np.stack([f(np.linspace(0, np.pi, 6)) for f in (np.sin, np.cos)], 1)


def disc(middle: np.ndarray, radius: float | np.ndarray) -> np.ndarray:
    """Outline (..., 12, 2) of a circle, or of an upright ellipse with two radii."""
    return np.asarray(middle) + _CIRCLE * radius


def hull(points: np.ndarray) -> np.ndarray:
    """Convex hull of points (N, 2), (M, 2)."""
    return cv2.convexHull(np.asarray(points, np.float32))[:, 0]


def capsules(start: np.ndarray, stop: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Outlines of limbs with half circles at their ends.

    Args:
        start: pixels (N, 2).
        stop: pixels (N, 2).
        radii: of the two ends, pixels (N, 2).

    Returns:
        (N, 12, 2).
    """
    along = stop - start
    along /= np.maximum(np.hypot(along[:, :1], along[:, 1:]), 1e-6)
    frame = np.empty((len(along), 2, 2))  # rows: along and across
    frame[:, 0], frame[:, 1, 0], frame[:, 1, 1] = along, -along[:, 1], along[:, 0]
    arcs = _ARC @ frame
    radii = radii[:, :, None, None]
    ends = stop[:, None] + radii[:, 1] * arcs, start[:, None] - radii[:, 0] * arcs
    return np.concatenate(ends, 1)


class Canvas:
    """Colour and label of fine pixels.

    Args:
        width: of the picture, pixels.
        height: of the picture, pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self.pixels = np.zeros((FINE * height, FINE * width, 4), np.uint8)

    @property
    def colour(self) -> np.ndarray:
        """BGR of the fine pixels, a view (FINE * height, FINE * width, 3)."""
        return self.pixels[..., :3]

    @property
    def label(self) -> np.ndarray:
        """Train ids of the fine pixels, a view (FINE * height, FINE * width)."""
        return self.pixels[..., 3]

    @staticmethod
    def _fixed(outline: np.ndarray, start: np.ndarray | int = 0) -> np.ndarray:
        """An outline (N, 2) in fixed-point fine pixels from ``start`` on."""
        points = outline * float(FINE << _SHIFT) + ((FINE - 1) / 2 - start) * (1 << _SHIFT)
        return np.rint(points).astype(np.int32)

    def fill(self, outline: np.ndarray, colour: np.ndarray, label: int) -> None:
        """Paints a polygon (N, 2), convex or not, in one BGR colour (3,)."""
        value = (*colour.tolist(), label)
        cv2.fillPoly(self.pixels, [self._fixed(outline)], value, cv2.LINE_8, _SHIFT)

    def fill_each(self, outlines: np.ndarray, colours: np.ndarray, label: int) -> None:
        """Paints convex polygons (N, M, 2) in BGR colours (N, 3), one after the other."""
        for outline, colour in zip(self._fixed(outlines), colours.tolist(), strict=True):
            cv2.fillConvexPoly(self.pixels, outline, (*colour, label), cv2.LINE_8, _SHIFT)

    def _window(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """First and end corner, fine pixels (2,) each, of what points (N, 2) cover."""
        points = points * FINE + (FINE - 1) / 2
        high, wide = self.label.shape
        (x0, y0), (x1, y1) = points.min(0).tolist(), points.max(0).tolist()
        x0, y0 = max(math.floor(x0), 0), max(math.floor(y0), 0)
        x1, y1 = min(math.ceil(x1) + 1, wide), min(math.ceil(y1) + 1, high)
        return None if x0 >= x1 or y0 >= y1 else (np.array((x0, y0)), np.array((x1, y1)))

    def _lay(self, cloth: np.ndarray, outlines, start, stop, label: int) -> None:
        """Copies a window's cloth (h, w, 3) to where convex outlines (N, M, 2) are."""
        mask = np.zeros(cloth.shape[:2], np.uint8)
        for outline in self._fixed(outlines, start):
            cv2.fillConvexPoly(mask, outline, 255, cv2.LINE_8, _SHIFT)
        four = cv2.cvtColor(cloth, cv2.COLOR_BGR2BGRA)
        cv2.insertChannel(np.full_like(mask, label), four, 3)
        window = self.pixels[start[1] : stop[1], start[0] : stop[0]]
        cv2.copyTo(four, mask, window)

    def hang(self, quad: np.ndarray, tile: np.ndarray, label: int) -> None:
        """Paints a quadrilateral with a texture in perspective.

        Args:
            quad: corners (4, 2), where the tile's top left, top right, bottom right and
                bottom left go.
            tile: BGR uint8 (h, w, 3).
            label: train id.
        """
        window = self._window(quad)
        if window is None:
            return
        start, stop = window
        h, w = tile.shape[:2]
        corners = np.array([(0, 0), (w, 0), (w, h), (0, h)], np.float32) - 0.5
        to = (quad * FINE + (FINE - 1) / 2 - start).astype(np.float32)
        matrix = cv2.getPerspectiveTransform(corners, to)
        size = tuple(int(n) for n in stop - start)
        cloth = cv2.warpPerspective(
            tile, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        self._lay(cloth, quad[None], start, stop, label)

    def drape(self, outlines: np.ndarray, tile: np.ndarray, scale: float, label: int) -> None:
        """Paints the union of convex outlines with a texture that repeats.

        Args:
            outlines: polygons (N, M, 2).
            tile: BGR uint8 (h, w, 3).
            scale: texels per pixel of the picture.
            label: train id.
        """
        window = self._window(outlines.reshape(-1, 2))
        if window is None:
            return
        start, stop = window
        step = scale / FINE
        matrix = np.array([[step, 0, start[0] * step], [0, step, start[1] * step]])
        size = tuple(int(n) for n in stop - start)
        flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        cloth = cv2.warpAffine(tile, matrix, size, flags=flags, borderMode=cv2.BORDER_WRAP)
        self._lay(cloth, outlines, start, stop, label)

    def darken(self, outline: np.ndarray, share: float) -> None:
        """Takes a share of the light from a polygon (N, 2); the labels stay."""
        window = self._window(outline)
        if window is None:
            return
        start, stop = window
        view = self.pixels[start[1] : stop[1], start[0] : stop[0]]
        mask = np.zeros(view.shape[:2], np.uint8)
        cv2.fillPoly(mask, [self._fixed(outline, start)], 255, cv2.LINE_8, _SHIFT)
        dim = cv2.multiply(view, (1 - share, 1 - share, 1 - share, 1.0))
        cv2.copyTo(dim, mask, view)

    def picture(self) -> np.ndarray:
        """The picture, BGR uint8 (height, width, 3)."""
        size = (self.pixels.shape[1] // FINE, self.pixels.shape[0] // FINE)
        return cv2.resize(self.pixels, size, interpolation=cv2.INTER_AREA)[..., :3].copy()

    def labels(self) -> np.ndarray:
        """The train ids that most fine pixels of each pixel have, uint8 (height, width).

        Of two labels with two pixels each the one at the top left wins.
        """
        a, b, c, d = (self.label[i::FINE, j::FINE] for i in (0, 1) for j in (0, 1))
        first = (a == b) | (a == c) | (a == d)
        return np.where(first, a, np.where((b == c) | (b == d), b, np.where(c == d, c, a)))
