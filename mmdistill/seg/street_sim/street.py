"""One street: a scene seen under the look of a domain, with its labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .brush import Brush
from .canvas import Canvas, disc
from .classes import VOID
from .exposure import expose, light
from .ground import paint_ground, paint_sky
from .layout import Scene, compose
from .looks import Look

_Rng = np.random.Generator
DOMAINS = ('source', 'target')
"""``source`` looks like a game, ``target`` like photographs from a car."""
SMALLEST, LARGEST = 32, 2048


@dataclass(frozen=True)
class StreetSettings:
    """What a picture is.

    Attributes:
        size: width and height in pixels.
    """

    size: tuple[int, int] = (256, 128)

    def __post_init__(self) -> None:
        """Checks the size.

        Raises:
            ValueError: a side out of range.
        """
        if len(self.size) != 2 or not all(SMALLEST <= side <= LARGEST for side in self.size):
            raise ValueError(
                f'size must be two sides of {SMALLEST} to {LARGEST} pixels, got '
                f'{"x".join(map(str, self.size))}'
            )


@dataclass(frozen=True)
class Street:
    """A picture with its labels.

    Attributes:
        image: BGR uint8 (height, width, 3).
        label: Cityscapes' train ids, 255 for none, uint8 (height, width).
        scene: what is to be seen.
    """

    image: np.ndarray
    label: np.ndarray
    scene: Scene


def paint(scene: Scene, rng: _Rng, look: str) -> Street:
    """Paints a scene.

    Args:
        scene: what is where; it alone decides on the labels.
        rng: source of randomness of the look.
        look: domain whose colours, textures and camera are used.
    """
    camera = scene.camera
    canvas = Canvas(camera.width, camera.height)
    brush = Brush(camera, canvas, Look(look, rng))
    paint_sky(canvas, camera, brush.look)
    paint_ground(canvas, camera, scene.ground, brush.look)
    for thing in scene.things:
        thing.paint(brush)
    if scene.bonnet is not None:
        wide, high = scene.bonnet
        middle = (camera.width - 1) / 2, camera.height - 0.5
        radii = np.array([wide * camera.width, high * camera.height])
        colour = brush.look.pick('bonnet')
        canvas.fill(disc(middle, radii), colour, VOID)
        canvas.fill(disc(middle, radii * (0.85, 0.6)), colour * 1.2 + 8, VOID)
    take = expose if look == 'target' else light
    return Street(take(rng, canvas.picture()), canvas.labels(), scene)


def simulate(domain: str, seed: int, index: int, settings: StreetSettings | None = None) -> Street:
    """Makes picture ``index`` of a domain of the data set ``seed``.

    Args:
        domain: one of :data:`DOMAINS`.
        seed: of the data set, not negative.
        index: of the picture, not negative.
        settings: what a picture is.

    Raises:
        ValueError: an unknown domain.
    """
    if domain not in DOMAINS:
        raise ValueError(f'domain must be one of {", ".join(DOMAINS)}, got {domain!r}')
    settings = settings or StreetSettings()
    key = (seed, DOMAINS.index(domain), index)
    scene = compose(np.random.default_rng((*key, 0)), domain, *settings.size)
    return paint(scene, np.random.default_rng((*key, 1)), domain)
