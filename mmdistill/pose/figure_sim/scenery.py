"""What is behind and in front of people: rooms, streets, things like limbs, occluders."""

from __future__ import annotations

import cv2
import numpy as np

from .canvas import OCCLUDER, Canvas, Grain, capsule, disc
from .fabric import draw_colour, draw_garment, draw_skin, plain, slope, smooth_noise

_Rng = np.random.Generator


def _box(picture: np.ndarray, x0: float, y0: float, x1: float, y1: float, colour) -> None:
    """Fills an upright rectangle, BGR (3,)."""
    corners = (round(x0), round(y0)), (round(x1), round(y1))
    cv2.rectangle(picture, *corners, tuple(float(c) for c in colour), -1)


def _gradient(rng: _Rng, size: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """A picture that goes from one colour to the other, float32 (size, size, 3)."""
    share = np.clip(0.5 + 0.4 * slope(rng, size), 0, 1)[..., None]
    return first * (1 - share) + second * share


def _room(rng: _Rng, picture: np.ndarray) -> None:
    """Floor, skirting board, windows, pictures, shelves, furniture."""
    size = len(picture)
    floor = size * rng.uniform(0.55, 0.9)
    _box(picture, 0, floor, size, size, draw_colour(rng, 0.3))
    _box(picture, 0, floor - size * 0.02, size, floor, draw_colour(rng))
    for _ in range(rng.integers(1, 5)):
        x, y = rng.uniform(-0.1, 0.9) * size, rng.uniform(-0.1, 0.5) * size
        w, h = rng.uniform(0.1, 0.4, 2) * size
        _box(picture, x, y, x + w, y + h, draw_colour(rng))
        inset = 0.02 * size
        _box(picture, x + inset, y + inset, x + w - inset, y + h - inset, draw_colour(rng))
        if rng.random() < 0.4:  # bars of a window, or boards
            for share in rng.uniform(0.2, 0.8, 2):
                _box(picture, x, y + share * h, x + w, y + share * h + 2, draw_colour(rng))
                _box(picture, x + share * w, y, x + share * w + 2, y + h, draw_colour(rng))
    for _ in range(rng.integers(0, 4)):
        x, w = rng.uniform(-0.1, 0.9) * size, rng.uniform(0.1, 0.4) * size
        _box(picture, x, floor - rng.uniform(0.1, 0.4) * size, x + w,
             floor + rng.uniform(0, 0.2) * size, draw_colour(rng, 0.2))  # fmt: skip


def _street(rng: _Rng, picture: np.ndarray) -> None:
    """Sky, houses with windows, trees, poles, ground."""
    size = len(picture)
    ground = size * rng.uniform(0.5, 0.85)
    x = -rng.uniform(0, 0.3) * size
    while x < size and rng.random() < 0.9:
        w, top = rng.uniform(0.15, 0.5) * size, ground - rng.uniform(0.15, 0.8) * size
        _box(picture, x, top, x + w, ground, draw_colour(rng, 0.15))
        pane, step = draw_colour(rng), rng.uniform(0.06, 0.14) * size
        for wy in np.arange(top + step / 2, ground - step / 2, step):
            for wx in np.arange(x + step / 2, x + w - step / 2, step):
                _box(picture, wx, wy, wx + step / 2, wy + step / 2, pane)
        x += w + rng.uniform(0, 0.2) * size
    _box(picture, 0, ground, size, size, draw_colour(rng, 0.2))
    for _ in range(rng.integers(0, 4)):
        x, wide = rng.uniform(0, 1) * size, rng.uniform(0.01, 0.04) * size
        top = ground - rng.uniform(0.2, 0.7) * size
        _box(picture, x - wide, top, x + wide, ground, draw_colour(rng, 0.4))
        if rng.random() < 0.7:
            green = draw_colour(rng, 0.3) * 0.4 + np.array([20, 90, 40]) * rng.uniform(0.5, 1.2)
            for _ in range(8):
                at = np.array([x, top]) + rng.normal(0, 0.06 * size, 2)
                radius = int(rng.uniform(0.03, 0.09) * size)
                tone = tuple(float(c) for c in green * rng.uniform(0.7, 1.3))
                cv2.circle(picture, tuple(int(c) for c in at), radius, tone, -1, cv2.LINE_AA)


def _clutter(rng: _Rng, picture: np.ndarray) -> None:
    """Random bars, discs and boxes."""
    size = len(picture)
    for _ in range(rng.integers(4, 16)):
        colour = tuple(float(c) for c in draw_colour(rng))
        a, b = rng.uniform(0, size, (2, 2)).astype(int)
        kind = rng.integers(3)
        if kind == 0:
            cv2.line(picture, tuple(map(int, a)), tuple(map(int, b)), colour,
                     int(rng.integers(1, 9)), cv2.LINE_AA)  # fmt: skip
        elif kind == 1:
            radius = int(rng.uniform(0.02, 0.12) * size)
            cv2.circle(picture, tuple(map(int, a)), radius, colour, -1, cv2.LINE_AA)
        else:
            _box(picture, *a, *(a + rng.uniform(0.05, 0.3, 2) * size), colour)


def draw_background(rng: _Rng, size: int) -> np.ndarray:
    """A background, BGR uint8 (size, size, 3)."""
    first, second = draw_colour(rng), draw_colour(rng)
    picture = np.ascontiguousarray(_gradient(rng, size, first, second).astype(np.uint8))
    kind = rng.choice(4, p=(0.15, 0.35, 0.35, 0.15))
    if kind == 1:
        _room(rng, picture)
    elif kind == 2:
        _street(rng, picture)
    if kind == 3 or rng.random() < 0.35:
        _clutter(rng, picture)
    if rng.random() < 0.6:
        rough = rng.uniform(0.02, 0.16) * smooth_noise(rng, int(rng.choice((6, 20, 50))), size)
        gain = np.clip(128 * (1 + rough), 0, 255).astype(np.uint8)
        picture = cv2.multiply(picture, cv2.merge([gain] * 3), scale=1 / 128)
    return picture


def draw_decoys(rng: _Rng, canvas: Canvas, size: int) -> None:
    """Paints things that resemble limbs and heads but belong to nobody."""
    for _ in range(rng.integers(0, 5)):
        tile = plain(rng, draw_skin(rng)) if rng.random() < 0.5 else draw_garment(rng).limb
        at = rng.uniform(0, size, 2)
        length, wide = rng.uniform(0.08, 0.22) * size, rng.uniform(0.012, 0.035) * size
        if rng.random() < 0.2:
            grain = Grain(at, np.array([0.0, 1.0]), 2 * wide, 50)
            canvas.drape(disc(at, np.diag([1.6 * wide, 2.1 * wide])), tile, grain, 0)
            continue
        angle = rng.uniform(0, 2 * np.pi)
        for _ in range(rng.integers(1, 3)):
            along = np.array([np.cos(angle), np.sin(angle)])
            end = at + along * length
            canvas.drape(capsule(at, end, wide, 0.7 * wide), tile, Grain(at, along, wide, 40), 0)
            at, wide, angle = end, 0.75 * wide, angle + rng.normal(0, 1)


def _foliage(rng: _Rng, canvas: Canvas, at: np.ndarray, reach: float) -> None:
    """A bush or branch: many leaves with gaps between them."""
    green = np.array([30, 110, 60]) * rng.uniform(0.4, 1.5) + rng.uniform(-25, 45, 3)
    count = int(rng.integers(14, 34))
    spots = at + rng.normal(0, 0.5 * reach, (count, 2))
    for spot in spots:
        angle = rng.uniform(0, np.pi)
        c, s = np.cos(angle), np.sin(angle)
        axes = np.array([[c, -s], [s, c]]) @ np.diag(rng.uniform(0.1, 0.32, 2) * reach)
        tone = np.clip(green * rng.uniform(0.6, 1.35), 0, 255)
        canvas.fill(disc(spot, axes), tone, OCCLUDER)


def draw_occluder(rng: _Rng, canvas: Canvas, at: np.ndarray, reach: float) -> None:
    """Paints a box, a pole or foliage over what the canvas holds.

    Args:
        rng: source of randomness.
        canvas: to paint on.
        at: what it shall hide, pixels (2,).
        reach: about half its extent in pixels.
    """
    kind = rng.choice(3, p=(0.4, 0.3, 0.3))
    if kind == 2:
        _foliage(rng, canvas, at, reach)
        return
    like_skin = rng.random() < 0.15
    tile = plain(rng, draw_skin(rng)) if like_skin else draw_garment(rng).trunk
    angle = np.radians(rng.normal(0, 8) + 90 * (rng.random() < 0.25))
    along = np.array([np.sin(angle), np.cos(angle)])
    across = np.array([along[1], -along[0]])
    if kind == 1:
        wide, length = rng.uniform(0.12, 0.28) * reach, rng.uniform(2, 14) * reach
    else:
        wide, length = rng.uniform(0.4, 1.1) * reach, rng.uniform(0.4, 1.3) * reach
        at = at + rng.normal(0, 0.3 * reach, 2)
    corners = [at + a * across * wide + b * along * length for a, b in
               ((-1, -1), (1, -1), (1, 1), (-1, 1))]  # fmt: skip
    canvas.drape(np.array(corners), tile, Grain(at, along, wide, 1.2 * reach), OCCLUDER)
