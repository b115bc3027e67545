"""What lines a street: houses, walls, fences, parks, trees, poles, people, bins."""

from __future__ import annotations

import numpy as np

from .blocks import Block
from .brush import Place
from .furniture import SIGNS, Clutter, Pole
from .ground import Ground
from .people import TwoWheeler
from .plants import draw_bush, draw_tree
from .styles import Style
from .traffic import draw_pedestrian

_Rng = np.random.Generator
_FIRST = 1.5
_KINDS = ('houses', 'wall', 'fence', 'park', 'nothing')


def _block(side: int, kind: str, near: float, deep: float, z: tuple[float, float], tall: float,
           **more) -> Block:  # fmt: skip
    """A block that begins ``near`` metres from the road's middle and is ``deep`` metres deep."""
    s = sorted((side * near, side * (near + deep)))
    return Block(kind, (float(s[0]), float(s[1])), (float(z[0]), float(z[1])), float(tall), **more)


def _crosses(ground: Ground, z: float, margin: float = 0.0) -> bool:
    """Whether the crossing road is at ``z``."""
    return ground.junction is not None and (
        ground.junction[0] - margin <= z <= ground.junction[1] + margin
    )


def _stretches(rng: _Rng, ground: Ground, style: Style, far: float):
    """Pieces (kind, from, to) of one side of the street without the crossing road."""
    z = _FIRST
    while z < far:
        end = min(z + rng.uniform(*style.stretch), far)
        kind = str(rng.choice(_KINDS, p=style.sides))
        if ground.junction is not None:
            first, last = ground.junction
            if z < first - 1 < end:
                end = first - 1
            elif first - 1 <= z < last + 1:
                z = last + 1
                continue
        if end - z > 2.5:
            yield kind, z, end
        z = end + 0.05


def fill_side(rng: _Rng, plot, ground: Ground, style: Style, side: int, far: float) -> None:
    """Places all that is beside the road.

    Args:
        rng: source of randomness.
        plot: takes the things.
        ground: the road.
        style: densities.
        side: -1 for the left, 1 for the right.
        far: end of the street in metres.
    """
    index = int(side > 0)
    curb = ground.half
    walk = curb + ground.verge[index]
    edge = walk + ground.walk[index]
    for kind, near, end in _stretches(rng, ground, style, far):
        _line(rng, plot, style, side, edge, kind, near, end)
    count = lambda per_100: int(rng.poisson(per_100 * far / 100))  # noqa: E731
    spread = lambda: 5 + (far - 5) * rng.random() ** 2  # noqa: E731  nearer ones are seen

    if ground.junction is not None and rng.random() < 0.22:
        arm = -side * rng.uniform(1.5, 4) if rng.random() < 0.4 else 0.0
        tall = rng.uniform(5, 6) if arm else rng.uniform(3, 3.6)
        place = Place(side * (curb + 0.5), ground.junction[0] - rng.uniform(0.2, 1.2))
        plot.add(Pole(place, float(tall), float(arm), lights=True))
    for _ in range(count(style.poles)):
        z, place_s = spread(), side * (curb + rng.uniform(0.4, 0.8))
        if _crosses(ground, z):
            continue
        if rng.random() < style.signs:
            plot.add(Pole(Place(place_s, z), float(rng.uniform(2.2, 3.2)), sign=str(
                rng.choice(SIGNS, p=(0.35, 0.25, 0.25, 0.15))), wide=0.055))  # fmt: skip
        else:
            arm = -side * rng.uniform(1, 2.4) if rng.random() < 0.75 else 0.0
            plot.add(Pole(Place(place_s, z), float(rng.uniform(5, 8.5)), float(arm), wide=0.1))
    for _ in range(count(style.trees)):
        z = spread()
        s = side * (rng.uniform(curb + 0.6, walk + 0.9))
        if not _crosses(ground, z, 1):
            plot.add(draw_tree(rng, Place(s, z), float(rng.uniform(4.5, 9))), gap=0.4)
    for _ in range(count(style.people)):
        z, s = spread(), side * rng.uniform(walk + 0.4, edge - 0.3)
        heading = rng.choice((0, np.pi, np.pi / 2, -np.pi / 2), p=(0.35, 0.35, 0.15, 0.15))
        if not _crosses(ground, z):
            plot.add(draw_pedestrian(rng, s, z, float(heading + rng.normal(0, 0.2))), gap=0.02)
    for _ in range(count(style.cycles)):
        z, s = spread(), side * rng.uniform(walk + 0.5, edge - 0.5)
        heading = rng.choice((0, np.pi / 2, -np.pi / 2)) + rng.normal(0, 0.25)
        motor = bool(rng.random() < 0.5 * style.motors)
        if not _crosses(ground, z, 1):
            plot.add(TwoWheeler(Place(s, z, float(heading)), motor, rider=False))
    for _ in range(count(style.clutter)):
        z, s = spread(), side * rng.uniform(walk + 0.5, edge - 0.4)
        half = tuple(float(n) for n in rng.uniform((0.25, 0.25, 0.7), (0.6, 0.5, 1.3)))
        if not _crosses(ground, z):
            plot.add(Clutter(Place(s, z, float(rng.normal(0, 0.2))), half))


def _line(rng: _Rng, plot, style: Style, side: int, edge: float, kind: str, near: float,
          end: float) -> None:  # fmt: skip
    """Lines the street from ``near`` to ``end`` metres ahead."""
    if kind == 'houses':
        set_back = edge + rng.uniform(*style.setback)
        floor, tall = rng.uniform(2.9, 3.6), rng.uniform(*style.house)
        z = near
        while z < end - 1:
            stop = min(z + rng.uniform(8, 18), end)
            stop = end if end - stop < 5 else stop
            tall = float(np.clip(tall * rng.uniform(0.75, 1.3), *style.house))
            roof = rng.uniform(2, 3.5) if rng.random() < style.roof and tall < 14 else 0.0
            plot.add(
                _block(side, 'building', set_back, rng.uniform(8, 14), (z, stop - 0.05), tall,
                       roof=float(roof), floor=float(floor), bay=float(rng.uniform(2.2, 3.6))),
                gap=0.0,
            )  # fmt: skip
            z = stop
    elif kind in ('wall', 'fence'):
        low, high = (1.4, 3.4) if kind == 'wall' else (1.0, 2.0)
        at = edge + rng.uniform(0.05, 0.5)
        plot.add(_block(side, kind, at, 0.25, (near, end), rng.uniform(low, high)), gap=0.0)
        _park(rng, plot, side, edge + 2.0, near, end, 0.5)
    elif kind == 'park':
        if rng.random() < 0.5:
            plot.add(
                _block(side, 'hedge', edge + 0.3, 0.8, (near, end), rng.uniform(0.8, 1.8)), gap=0.0
            )
        _park(rng, plot, side, edge + 1.6, near, end, 1.0)


def _park(rng: _Rng, plot, side: int, edge: float, near: float, end: float, dense: float) -> None:
    """Plants trees and bushes up to 25 m beside the sidewalk."""
    for _ in range(rng.poisson(dense * (end - near) * 0.5)):
        s, z = side * (edge + rng.uniform(1, 24)), rng.uniform(near, end)
        if rng.random() < 0.75:
            plot.add(draw_tree(rng, Place(s, z), float(rng.uniform(5, 11))), gap=0.3)
        else:
            plot.add(draw_bush(rng, Place(s, z)))
