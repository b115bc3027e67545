"""Trees and bushes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .brush import Brush, Place
from .camera import NEAR
from .canvas import disc
from .classes import VEGETATION

_Rng = np.random.Generator


@dataclass(frozen=True)
class Plant:
    """A crown of blobs, with a trunk or without.

    Attributes:
        place: of the trunk.
        trunk: height of the trunk in metres, 0 for a bush.
        blobs: right, up and radius in metres, (N, 3).
    """

    place: Place
    trunk: float
    blobs: np.ndarray

    @property
    def footprint(self) -> np.ndarray:
        """Corners (4, 2) of a strip as wide as half the crown."""
        return self.place.footprint(0.2, float(np.abs(self.blobs[:, 0]).max()) / 2 + 0.2)

    def paint(self, brush: Brush) -> None:
        """Paints trunk, crown and the leaves that the sun lights."""
        place, look = self.place, brush.look
        brush.shadow(place, 1.2, float(np.abs(self.blobs[:, 0]).max()) + 0.3)
        if self.trunk:
            trunk = np.array([(0, 0, 0, 0, 0, self.trunk + 1, 0.2, 0.12)])
            brush.limbs(place, trunk, look.pick('trunk')[None], VEGETATION)
        scale = brush.camera.focal / max(place.z, NEAR)
        blobs = self.blobs * scale
        at = brush.camera.project(np.array([place.s, place.z, 0.0])) + blobs[:, :2] * (1, -1)
        leaves = look.leaves()
        texels = 26 / scale if look.real else 18 / scale
        radii = blobs[:, 2:, None]
        shift = blobs[:, 2:] * np.array([0.18 * look.sun, -0.18])  # stays within
        for tone, outlines in (
            (0.82, disc(at[:, None], radii)),
            (1.1, disc((at + shift)[:, None], 0.7 * radii)),
        ):
            tile = look.shade(leaves, tone, place.z)
            brush.canvas.drape(outlines, tile, texels, VEGETATION)


def draw_tree(rng: _Rng, place: Place, tall: float) -> Plant:
    """A tree of about this height in metres."""
    trunk = tall * rng.uniform(0.3, 0.48)
    wide, high = tall * rng.uniform(0.16, 0.3), (tall - trunk) / 2
    count = int(rng.integers(6, 11))
    angle = rng.uniform(0, 2 * np.pi, count)
    far = np.sqrt(rng.uniform(0, 1, count))
    radius = min(wide, high) * rng.uniform(0.45, 0.75, count)
    right, up = far * wide * np.cos(angle), trunk + high * (1 + 0.8 * far * np.sin(angle))
    return Plant(place, trunk, np.column_stack([right, up, radius]))


def draw_bush(rng: _Rng, place: Place) -> Plant:
    """A bush."""
    count = int(rng.integers(3, 7))
    radius = rng.uniform(0.35, 0.8, count)
    right = rng.uniform(-1.1, 1.1, count)
    return Plant(place, 0.0, np.column_stack([right, radius * rng.uniform(0.5, 1, count), radius]))
