"""Colours and textures of skin, hair and clothes, and what a person wears."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import cv2
import numpy as np

from .canvas import TILE

_Rng = np.random.Generator
_U, _V = np.meshgrid(np.arange(TILE) / TILE, np.arange(TILE) / TILE)

# RGB
_SKIN = ((255, 219, 190), (241, 194, 155), (224, 172, 125), (198, 134, 90), (160, 105, 66),
         (125, 78, 50), (92, 56, 38), (66, 42, 32))  # fmt: skip
_HAIR = ((25, 20, 18), (45, 30, 22), (85, 55, 35), (130, 90, 50), (205, 170, 105), (150, 60, 30),
         (150, 148, 145), (215, 212, 208))  # fmt: skip
PATTERNS = {
    'plain': 0.34,
    'rows': 0.17,
    'columns': 0.1,
    'checks': 0.12,
    'noise': 0.15,
    'dots': 0.12,
}
"""Patterns of clothes, and how often they are worn."""


def bgr(red: float, green: float, blue: float) -> np.ndarray:
    """A colour in OpenCV's order, float32 (3,)."""
    return np.array([blue, green, red], np.float32)


def draw_colour(rng: _Rng, dark: float = 0.0) -> np.ndarray:
    """A random colour of cloth or paint, BGR (3,); ``dark`` in [0, 1] takes light away."""
    hue, strength, light = rng.random(), rng.random() ** 1.3, rng.uniform(0.12, 1.0)
    if rng.random() < 0.3:
        strength *= 0.2
    red, green, blue = colorsys.hsv_to_rgb(hue, strength, light * (1 - dark))
    return bgr(red, green, blue) * 255


def draw_skin(rng: _Rng) -> np.ndarray:
    """A skin tone, BGR (3,)."""
    at = rng.uniform(0, len(_SKIN) - 1.001)
    low, share = int(at), at % 1
    tone = (1 - share) * np.array(_SKIN[low]) + share * np.array(_SKIN[low + 1])
    return np.clip(bgr(*tone) * rng.normal(1, 0.04, 3), 0, 255).astype(np.float32)


def smooth_noise(rng: _Rng, cells: int, size: int = TILE) -> np.ndarray:
    """Noise of unit scale with blobs of ``size / cells`` pixels, float32 (size, size)."""
    coarse = rng.standard_normal((cells, cells), np.float32)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def slope(rng: _Rng, size: int) -> np.ndarray:
    """A ramp through 0 in the middle in a random direction, 1 at half the size from there.

    Returns:
        float32 (size, size).
    """
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    return float(np.cos(angle)) * ramp[None, :] + float(np.sin(angle)) * ramp[:, None]


def plain(rng: _Rng, colour: np.ndarray, rough: float = 0.04) -> np.ndarray:
    """A fabric of one colour with a little unevenness, float32 (TILE, TILE, 3)."""
    return (colour * (1 + rough * smooth_noise(rng, 12))[..., None]).astype(np.float32)


def weave(rng: _Rng, pattern: str, first: np.ndarray, second: np.ndarray, k: int) -> np.ndarray:
    """A fabric of two colours.

    Args:
        rng: source of randomness.
        pattern: a key of :data:`PATTERNS`.
        first: BGR (3,).
        second: BGR (3,).
        k: repetitions of the pattern within a tile.

    Returns:
        BGR float32 (TILE, TILE, 3).
    """
    u, v = (_U * k) % 1, (_V * k) % 1
    if pattern == 'plain':
        return plain(rng, first)
    if pattern == 'rows':
        share = (v < 0.45).astype(np.float32)
    elif pattern == 'columns':
        share = (u < 0.45).astype(np.float32)
    elif pattern == 'checks':
        share = 0.5 * (u < 0.5) + 0.5 * (v < 0.5)
    elif pattern == 'dots':
        share = ((u - 0.5) ** 2 + (v - 0.5) ** 2 < 0.09).astype(np.float32)
    else:
        share = np.clip(0.5 + smooth_noise(rng, 4 * k), 0, 1)
    return plain(rng, first) * (1 - share[..., None]) + (second * share[..., None])


@dataclass(frozen=True)
class Garment:
    """A fabric as it lies on the trunk and, with fewer repeats, on limbs.

    Attributes:
        trunk: BGR float32 (TILE, TILE, 3).
        limb: the same for a narrower part.
    """

    trunk: np.ndarray
    limb: np.ndarray


def draw_garment(rng: _Rng, dark: float = 0.0) -> Garment:
    """A random piece of clothing."""
    pattern = str(rng.choice(list(PATTERNS), p=list(PATTERNS.values())))
    first, second = draw_colour(rng, dark), draw_colour(rng, dark)
    if pattern == 'plain':
        tile = plain(rng, first)
        return Garment(tile, tile)
    k = int(rng.integers(2, 7))
    few = max(1, k // 2) if pattern in ('columns', 'checks', 'dots') else k
    trunk = weave(rng, pattern, first, second, k)
    return Garment(trunk, trunk if few == k else weave(rng, pattern, first, second, few))


@dataclass(frozen=True)
class Outfit:
    """What a person looks like.

    Attributes:
        skin: colour, BGR (3,).
        skin_tile: fabric of the skin.
        hair: fabric of hair or hat.
        hair_style: ``bald``, ``short``, ``long`` or ``hat``.
        top: shirt, jacket or dress.
        bottom: trousers, shorts or skirt.
        shoes: BGR (3,).
        sleeve: share of the arm that is covered, 0 to 2: upper arm, then forearm.
        leg: the same for the leg.
        skirt: share of the thigh that a skirt or coat covers, 0 for none.
        loose: factor on the thickness of clothes.
        eyes: BGR (3,).
        beard: whether there is one.
        glasses: whether there are any.
    """

    skin: np.ndarray
    skin_tile: np.ndarray
    hair: np.ndarray
    hair_style: str
    top: Garment
    bottom: Garment
    shoes: np.ndarray
    sleeve: float
    leg: float
    skirt: float
    loose: float
    eyes: np.ndarray
    beard: bool
    glasses: bool


def draw_outfit(rng: _Rng) -> Outfit:
    """A random look."""
    skin = draw_skin(rng)
    style = str(rng.choice(('bald', 'short', 'long', 'hat'), p=(0.08, 0.5, 0.28, 0.14)))
    hair = draw_colour(rng) if style == 'hat' or rng.random() < 0.05 else bgr(*rng.choice(_HAIR))
    top = draw_garment(rng)
    same = rng.random() < 0.12
    legs = rng.random()
    return Outfit(
        skin=skin,
        skin_tile=plain(rng, skin, 0.03),
        hair=plain(rng, hair, 0.16),
        hair_style=style,
        top=top,
        bottom=top if same else draw_garment(rng, dark=rng.uniform(0, 0.5)),
        shoes=draw_colour(rng, dark=0.3),
        sleeve=float(rng.choice((0.0, rng.uniform(0.4, 0.9), 2.0), p=(0.12, 0.4, 0.48))),
        leg=2.0 if legs < 0.62 else rng.uniform(0.4, 1.1),
        skirt=rng.uniform(0.45, 1.05) if legs > 0.85 or rng.random() < 0.06 else 0.0,
        loose=rng.uniform(1.0, 1.35),
        eyes=bgr(*rng.choice(((60, 35, 20), (30, 25, 25), (70, 110, 150), (60, 95, 60)))),
        beard=bool(rng.random() < 0.15),
        glasses=bool(rng.random() < 0.12),
    )
