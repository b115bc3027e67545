"""Buildings, walls, fences and hedges: upright boxes with a texture on each face."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .brush import Brush, turns
from .classes import BUILDING, FENCE, VEGETATION, WALL
from .looks import TILE, Look, textured

LABELS = {'building': BUILDING, 'wall': WALL, 'fence': FENCE, 'hedge': VEGETATION}
"""Train id of each kind of block."""
_CELL = 8
Skin = Callable[['Block', float], np.ndarray]


@dataclass(frozen=True)
class Block:
    """A box along or across the road.

    Attributes:
        kind: a key of :data:`LABELS`.
        s: from left to right, metres.
        z: from near to far, metres.
        tall: height, metres.
        roof: height of a roof above a building, metres; 0 for a flat one.
        floor: height of a floor of a building, metres.
        bay: width of a window with its share of the wall, metres.
    """

    kind: str
    s: tuple[float, float]
    z: tuple[float, float]
    tall: float
    roof: float = 0.0
    floor: float = 3.2
    bay: float = 2.8

    @property
    def footprint(self) -> np.ndarray:
        """Corners (4, 2): near left, near right, far right, far left."""
        (left, right), (near, far) = self.s, self.z
        return np.array([(left, near), (right, near), (right, far), (left, far)])

    def paint(self, brush: Brush) -> None:
        """Paints the faces that look at the camera, then the roof."""
        ring = self.footprint
        look, label = brush.look, LABELS[self.kind]
        skin = _SKINS[self.kind](look)
        for k in range(4):
            a, b = ring[k], ring[(k + 1) % 4]
            face = np.array([(*a, self.tall), (*b, self.tall), (*b, 0), (*a, 0)])
            quad = brush.camera.project(face)
            if turns(quad[None])[0] <= 0:
                continue
            normal = (b - a)[1] / max(np.hypot(*(b - a)), 1e-6)
            tone = 0.86 + 0.14 * look.sun * normal
            tile = skin(self, float(np.hypot(*(b - a))))
            brush.canvas.hang(quad, look.shade(tile, tone, float((a + b)[1] / 2)), label)
        if self.roof:
            self._paint_roof(brush, ring, look.pick('roof'))

    def _paint_roof(self, brush: Brush, ring: np.ndarray, colour: np.ndarray) -> None:
        """Paints a roof whose ridge runs along the road."""
        middle = (self.s[0] + self.s[1]) / 2
        top = self.tall + self.roof
        near, far = ((middle, z, top) for z in self.z)
        corners = [(*corner, self.tall) for corner in ring]
        for slope in ((corners[0], near, far, corners[3]), (far, near, corners[1], corners[2])):
            points = np.array(slope)
            if turns(brush.camera.project(points)[None])[0] < 0:
                brush.fill(points, colour, BUILDING)
        brush.fill(np.array([corners[0], near, corners[1]]), colour * 0.85, BUILDING)


def _grain(look: Look, high: int, wide: int) -> np.ndarray:
    """A piece of the look's grain, (high, wide)."""
    return np.tile(look.grain, (1 + high // TILE, 1 + wide // TILE))[:high, :wide]


def _facade(look: Look) -> Skin:
    """Skin of a building: rows of windows, perhaps above a shop."""
    base, pane, shop = look.pick('facade'), look.pick('window'), look.pick('shop')
    frame = base * 0.8 if look.real else np.array([245.0] * 3)
    palette = np.stack([base, frame, pane, shop]).astype(np.float32)
    aside, above = (int(look.draw(1, 4)), int(look.draw(1, 3))) if look.real else (2, 2)
    stain = look.draw(0, 0.25)
    with_shop, dull = look.draw(0, 1) < 0.5, look.draw(0, 0.5)
    at = np.arange(_CELL)
    open_x, open_y = (at >= aside) & (at < _CELL - aside), (at >= above) & (at < _CELL - above)
    cell = (open_y[:, None] & open_x).astype(np.uint8)
    cell[above + 1 : _CELL - above, aside : _CELL - aside - 1] *= 2
    counter = np.full((_CELL, _CELL), 3, np.uint8)
    counter[3:7, 1:7] = 2

    def skin(block: Block, length: float) -> np.ndarray:
        floors = max(1, round(block.tall / block.floor))
        bays = min(max(round(length / block.bay), 1), 16)
        kinds = np.tile(cell, (floors, bays))
        if with_shop and floors > 1:
            kinds[-_CELL:] = np.tile(counter, (1, bays))
        tile = palette[kinds]
        if look.real:  # blinds, curtains, reflections and dirt
            odd = look.rng.uniform(1 - dull, 1 + 2 * dull, (floors, bays)).astype(np.float32)
            odd = odd.repeat(_CELL, 0).repeat(_CELL, 1)
            gain = 1 + look.rough * 1.2 * _grain(look, *kinds.shape)
            gain -= stain * np.linspace(0, 1, len(kinds))[:, None]
            tile *= (gain * np.where(kinds == 2, odd, 1))[..., None]
        return np.clip(tile, 0, 255).astype(np.uint8)

    return skin


def _masonry(look: Look) -> Skin:
    """Skin of a wall: courses of stones, or plain concrete."""
    base, stones = look.pick('wall'), look.draw(0, 1) < 0.6

    def skin(block: Block, length: float) -> np.ndarray:
        h, w = 16, int(np.clip(length * 6, 8, 240))
        grain = 0.8 * look.rough * _grain(look, h, w)
        if stones:
            x, y = np.arange(w)[None], np.arange(h)[:, None]
            grain = grain - 0.16 * ((y % 4 == 0) | ((x + 4 * (y // 4)) % 8 == 0))
        grain[:2] += 0.12
        return textured(base, grain)

    return skin


def _bars(look: Look) -> Skin:
    """Skin of a fence: bars before whatever is behind."""
    palette = np.stack([look.pick('gap'), bar := look.pick('fence'), bar * 0.9])
    rails = look.draw(0, 1) < 0.7

    def skin(block: Block, length: float) -> np.ndarray:
        h, w = 16, int(np.clip(length * 8, 8, 400))
        kinds = np.tile((np.arange(w) % 4 < 2).astype(np.uint8), (h, 1))
        if rails:
            kinds[[1, 2, 12, 13]] = 2
        gain = 1 + 0.6 * look.rough * _grain(look, h, w)
        return np.clip(palette[kinds] * gain[..., None], 0, 255).astype(np.uint8)

    return skin


def _foliage(look: Look) -> Skin:
    """Skin of a hedge."""
    leaves = look.leaves()

    def skin(block: Block, length: float) -> np.ndarray:
        w = int(np.clip(length * 12, 16, 480))
        return np.tile(leaves[:24], (1, 1 + w // TILE, 1))[:, :w]

    return skin


_SKINS = {'building': _facade, 'wall': _masonry, 'fence': _bars, 'hedge': _foliage}
