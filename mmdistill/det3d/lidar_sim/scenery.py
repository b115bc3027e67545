"""What stands along a road and is nobody's label: buildings, plants, street furniture."""

from __future__ import annotations

import numpy as np

from .actors import Actor, finish
from .solids import Builder

_Rng = np.random.Generator


def building(rng: _Rng, length: float, depth: float) -> Actor:
    """A house front of ``length`` x ``depth`` metres with a door step or bay now and then."""
    b = Builder()
    height, wall = rng.uniform(3.5, 14), rng.uniform(0.15, 0.6)
    b.prism((0, 0, height / 2), (length, depth, height), reflectivity=wall)
    for _ in range(rng.integers(0, 3)):
        x = rng.uniform(-0.4, 0.4) * length
        wide = rng.uniform(0.6, 2.0)
        tall = rng.uniform(0.5, 3.0)
        b.prism((x, 0, tall / 2), (wide, depth + rng.uniform(0.4, 1.0), tall), reflectivity=wall)
    return finish('building', b)


def tree(rng: _Rng) -> Actor:
    """A trunk below a porous crown of several balls."""
    b = Builder()
    trunk, radius = rng.uniform(1.8, 3.5), rng.uniform(0.09, 0.28)
    b.rod((0, 0, 0), (rng.normal(0, 0.15), rng.normal(0, 0.15), trunk + 1), radius)
    crown = rng.uniform(1.0, 2.4)
    for _ in range(rng.integers(2, 4)):
        x, y = rng.normal(0, 0.35 * crown, 2)
        z = trunk + crown * rng.uniform(0.5, 1.3)
        radii = crown * rng.uniform(0.5, 0.9, 3)
        b.ball((x, y, z), tuple(radii), reflectivity=0.35, density=rng.uniform(0.3, 1.0))
    return Actor('tree', b.build(), (2 * radius + 0.1, 2 * radius + 0.1, trunk + 2 * crown))


def bush(rng: _Rng) -> Actor:
    """A heap of porous balls, from knee to man high."""
    b = Builder()
    height = rng.uniform(0.5, 1.9)
    spread = rng.uniform(0.15, 0.5)
    for _ in range(rng.integers(2, 6)):
        radii = height * rng.uniform(0.15, 0.4, 3)
        x, y = rng.normal(0, spread, 2)
        z = rng.uniform(0.2, 0.95) * height - radii[2] / 2
        b.ball((x, y, z), tuple(radii), reflectivity=0.35, density=rng.uniform(2, 12))
    return finish('bush', b)


def thicket(rng: _Rng) -> Actor:
    """Undergrowth and low trees of a green strip, 4 to 9 m long."""
    b = Builder()
    length, height = rng.uniform(4, 9), rng.uniform(1.2, 5.0)
    for _ in range(rng.integers(5, 11)):
        radii = rng.uniform(0.4, 1.4, 3)
        x, z = rng.uniform(-0.5, 0.5) * length, rng.uniform(0, 1) * height
        b.ball((x, rng.normal(0, 0.5), z), tuple(radii), reflectivity=0.3,
               density=rng.uniform(0.5, 4))  # fmt: skip
    for _ in range(rng.integers(0, 3)):
        x, y = rng.uniform(-0.5, 0.5) * length, rng.normal(0, 0.4)
        b.rod((x, y, 0), (x + rng.normal(0, 0.1), y, height), rng.uniform(0.05, 0.2))
    return finish('thicket', b)


def hedge(rng: _Rng) -> Actor:
    """A long cut hedge."""
    b = Builder()
    size = (rng.uniform(3, 10), rng.uniform(0.5, 1.2), rng.uniform(0.7, 2.0))
    b.prism((0, 0, size[2] / 2), size, reflectivity=0.35, density=rng.uniform(4, 12))
    return finish('hedge', b)


def fence(rng: _Rng) -> Actor:
    """A run of fence that lets part of the rays through, or a low wall."""
    b = Builder()
    length, height = rng.uniform(4, 12), rng.uniform(0.7, 1.8)
    wall = rng.random() < 0.35
    through = 0.0 if wall else rng.uniform(0.4, 0.8)
    size = (length, 0.25 if wall else 0.05, height)
    b.prism((0, 0, height / 2), size, reflectivity=0.3, transmit=through)
    for x in np.arange(-length / 2, length / 2, 2.0):
        b.rod((x, 0, 0), (x, 0, height + 0.1), 0.05)
    return finish('fence', b)


def pole(rng: _Rng) -> Actor:
    """A lamp post or the stem of a traffic light, at times with a cabinet on it."""
    b = Builder()
    height, radius = rng.uniform(2.5, 7), rng.uniform(0.05, 0.17)
    b.rod((0, 0, 0), (0, 0, height), radius, reflectivity=0.4)
    if rng.random() < 0.4:
        b.prism((0.1, 0, rng.uniform(1.0, 2.4)), (0.35, 0.35, 0.8), reflectivity=0.3)
    return finish('pole', b)


def sign(rng: _Rng) -> Actor:
    """A sign on a thin post, retro-reflecting."""
    b = Builder()
    height = rng.uniform(1.5, 2.6)
    b.rod((0, 0, 0), (0, 0, height), 0.035, reflectivity=0.4)
    size = rng.uniform(0.4, 0.9)
    b.prism((0, 0, height), (0.04, size, rng.uniform(0.4, 0.9)), reflectivity=1.5)
    return finish('sign', b)


def bin_(rng: _Rng) -> Actor:
    """A wheeled bin, litter bin, post box or cabinet: about as big as a person."""
    b = Builder()
    kind = rng.random()
    if kind < 0.45:
        size = (rng.uniform(0.45, 0.75), rng.uniform(0.45, 0.65), rng.uniform(0.9, 1.2))
        b.prism((0, 0, size[2] / 2), size, taper=(0.1, 0.1, 0.05), reflectivity=0.2)
    elif kind < 0.75:
        b.rod((0, 0, 0), (0, 0, rng.uniform(0.8, 1.5)), rng.uniform(0.2, 0.35), reflectivity=0.3)
    else:
        size = (rng.uniform(0.3, 0.5), rng.uniform(0.6, 1.3), rng.uniform(1.0, 1.8))
        b.prism((0, 0, size[2] / 2), size, reflectivity=0.4)
    return finish('bin', b)


def skip(rng: _Rng) -> Actor:
    """A skip, trailer or stack of pallets: about as big as a car, without its shape."""
    b = Builder()
    size = (rng.uniform(2.0, 4.2), rng.uniform(1.3, 2.0), rng.uniform(0.9, 1.7))
    lean = rng.uniform(0, 0.25)
    b.prism((0, 0, size[2] / 2), size, taper=(lean, lean, 0), reflectivity=rng.uniform(0.1, 0.5))
    return finish('skip', b)


def bollard(rng: _Rng) -> Actor:
    """A bollard or a short post."""
    b = Builder()
    b.rod((0, 0, 0), (0, 0, rng.uniform(0.6, 1.2)), rng.uniform(0.06, 0.16), reflectivity=0.5)
    return finish('bollard', b)


def column(rng: _Rng) -> Actor:
    """An advertising column, or a tree trunk cut at man height."""
    b = Builder()
    if rng.random() < 0.4:
        b.rod((0, 0, 0), (0, 0, rng.uniform(2.6, 3.4)), rng.uniform(0.5, 0.7), reflectivity=0.5)
    else:
        height = rng.uniform(1.3, 2.2)
        b.rod((0, 0, 0), (0.05, 0, height), rng.uniform(0.12, 0.3), reflectivity=0.25)
        if rng.random() < 0.5:
            b.ball((0.05, 0, height), (0.3, 0.3, 0.35), reflectivity=0.35, density=4.0)
    return finish('column', b)
