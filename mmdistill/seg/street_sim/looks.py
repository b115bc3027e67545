"""Colours, textures and air of the two domains.

A look never decides where anything is: the same scene has the same labels under both.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from .palettes import PALETTES

_Rng = np.random.Generator
TILE = 96
"""Texels of a texture along each axis."""
_MOST = 3000


def noise(rng: _Rng, cells: int, size: int = TILE) -> np.ndarray:
    """Noise of unit scale that repeats, with blobs of ``size / cells`` texels, (size, size)."""
    coarse = rng.standard_normal((cells, cells), np.float32)
    coarse = np.pad(coarse, 2, mode='wrap')
    step = size / cells
    matrix = np.array([[1 / step, 0, 2], [0, 1 / step, 2]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(coarse, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_WRAP)


def textured(colour: np.ndarray, grain: np.ndarray) -> np.ndarray:
    """A BGR colour (3,) under a relative grain (h, w), uint8 (h, w, 3)."""
    return np.clip(colour * (1 + grain[..., None]), 0, 255).astype(np.uint8)


class Look:
    """What one picture is painted with.

    Attributes:
        domain: ``source`` or ``target``.
        sun: from where the light comes, -1 (left) to 1 (right).
        contact: share of the light that things take from the ground below them.
        haze: BGR (3,) of the air.
        reach: distance after which 63 % of a colour is air, metres.
        cast: s of the edge of a shadow on the ground, m, and on which side of it (-1, 1) the
            shadow lies; None without.
        rough: relative strength of textures.

    Args:
        domain: ``source`` or ``target``.
        rng: source of randomness.
    """

    def __init__(self, domain: str, rng: _Rng) -> None:
        self.domain, self.rng = domain, rng
        self.palette = PALETTES[domain]
        self.real = domain == 'target'
        self._chances = iter(rng.random((_MOST, 5)).tolist())
        self.sun = float(rng.uniform(-1, 1))
        self.haze = self.pick('haze')
        self.cast: tuple[float, float] | None = None
        if self.real:
            self.contact = float(rng.uniform(0.15, 0.6))
            self.reach = float(rng.choice((rng.uniform(60, 150), rng.uniform(200, 600))))
            self.rough = float(rng.uniform(0.5, 1.3))
            if rng.random() < 0.45:
                self.cast = (float(rng.uniform(-5, 5)), float(rng.choice((-1, 1))))
        else:
            self.contact, self.reach, self.rough = 0.35, 600.0, 0.3
        fine, coarse = noise(rng, 48), noise(rng, 10)
        self._leaf = (
            self.rough * (0.22 * fine + 0.16 * noise(rng, 16))
            if self.real
            else 0.14 * np.sign(noise(rng, 14))
        )
        self.grain = 0.07 * fine + 0.07 * coarse if self.real else 0.05 * np.sign(coarse)

    def pick(self, material: str) -> np.ndarray:
        """A colour of a material, BGR (3,)."""
        tones, spread, tint = self.palette[material]
        which, light, *tints = next(self._chances)
        gain = 1 - spread + 2 * spread * light - tint
        tone = tones[int(which * len(tones))]
        channels = zip(reversed(tone), tints, strict=True)
        return np.array([min(c * (gain + 2 * tint * t), 255.0) for c, t in channels])

    def draw(self, low: float, high: float) -> float:
        """A random number for things that only their look depends on."""
        return float(self.rng.uniform(low, high))

    def air(self, colour: np.ndarray, z: float) -> np.ndarray:
        """BGR colours (..., 3) seen through ``z`` metres of air."""
        clear = math.exp(-max(z, 0.0) / self.reach)
        return colour * clear + self.haze * (1 - clear)

    def shade(self, tile: np.ndarray, tone: float, z: float) -> np.ndarray:
        """A texture uint8 (h, w, 3), its light times ``tone``, seen through ``z`` metres of air."""
        clear = math.exp(-max(z, 0.0) / self.reach)
        matrix = np.zeros((3, 4))
        matrix[:, :3], matrix[:, 3] = np.eye(3) * tone * clear, self.haze * (1 - clear)
        return cv2.transform(tile, matrix)

    def leaves(self) -> np.ndarray:
        """A texture of foliage, BGR uint8 (TILE, TILE, 3)."""
        return textured(self.pick('leaf'), self._leaf)
