"""Road users built of solids, each one different: vehicles, pedestrians, cyclists.

Every function draws one instance in its own frame (x forward, z up, ground at
0) and returns an :class:`Actor` whose box is tight around its solids.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .solids import Builder, Solids

_Rng = np.random.Generator


@dataclass(frozen=True)
class Actor:
    """One object in its own frame, centred over the origin.

    Attributes:
        name: KITTI class name, or what it is for things without a label.
        solids: the object's solids.
        size: length, width, height in metres.
    """

    name: str
    solids: Solids
    size: tuple[float, float, float]


def finish(name: str, builder: Builder, margin: float = 0.0) -> Actor:
    """Centres the solids over the origin and measures them.

    Args:
        name: see :class:`Actor`.
        builder: holds the solids; everything above the ground counts.
        margin: metres added on every side but the bottom, as annotators leave.
    """
    solids = builder.build()
    low, high = solids.bounds()
    middle = (low + high) / 2
    size = high - low + 2 * margin
    return Actor(
        name,
        solids.shifted(np.array([-middle[0], -middle[1], 0.0])),
        (float(size[0]), float(size[1]), float(high[2] + margin)),
    )


def _normal(rng: _Rng, mean: float, std: float, low: float, high: float) -> float:
    """A normal draw clipped to [low, high]."""
    return float(np.clip(rng.normal(mean, std), low, high))


_CAR_SHAPES = {
    # cabin from and to (share of the length from the rear), lean front, lean back, height scale
    'hatchback': (0.02, 0.74, 0.42, 0.10, 1.0),
    'sedan': (0.14, 0.72, 0.42, 0.34, 0.97),
    'wagon': (0.01, 0.73, 0.36, 0.12, 1.02),
    'suv': (0.01, 0.76, 0.30, 0.10, 1.13),
    'coupe': (0.10, 0.68, 0.50, 0.45, 0.90),
}


def car(rng: _Rng) -> Actor:
    """A passenger car: body, bonnet line, glass cabin, roof, four wheels."""
    shape = rng.choice(list(_CAR_SHAPES))
    rear, front, lean_front, lean_back, tall = _CAR_SHAPES[shape]
    length = _normal(rng, {'hatchback': 3.6, 'coupe': 3.9}.get(shape, 4.1), 0.3, 3.1, 4.95)
    width = _normal(rng, 1.62 + 0.06 * (length - 3.9), 0.07, 1.42, 1.95)
    height = _normal(rng, 1.50 * tall, 0.06, 1.25, 1.95)
    clear = rng.uniform(0.16, 0.26)
    belt = height * rng.uniform(0.56, 0.64)
    bonnet = belt * rng.uniform(0.86, 0.97)
    paint = float(np.clip(rng.lognormal(np.log(0.28), 0.6), 0.05, 0.85))
    b = Builder()
    b.prism(
        (0, 0, (clear + bonnet) / 2), (length, width, bonnet - clear),
        taper=(0.05, 0.04, 0.05), reflectivity=paint,
    )  # fmt: skip
    x0, x1 = (rear - 0.5) * length, (front - 0.5) * length
    middle, span = (x0 + x1) / 2, x1 - x0
    b.prism(
        (middle, 0, (bonnet + belt) / 2), (span, 0.95 * width, belt - bonnet + 0.02),
        reflectivity=paint,
    )  # fmt: skip
    roof = height - 0.06
    b.prism(
        (middle, 0, (belt + roof) / 2), (span, 0.93 * width, roof - belt),
        taper=(lean_front, lean_back, 0.16), reflectivity=0.15, transmit=rng.uniform(0.45, 0.7),
    )  # fmt: skip
    top0, top1 = x0 + lean_back * span / 2, x1 - lean_front * span / 2
    b.prism(
        ((top0 + top1) / 2, 0, height - 0.04), (max(top1 - top0, 0.4), 0.76 * width, 0.08),
        reflectivity=paint,
    )  # fmt: skip
    radius = rng.uniform(0.28, 0.35)
    for x in (0.32 * length, -0.31 * length):
        for side in (-1, 1):
            y = side * (width / 2 - 0.12)
            b.rod((x, y - 0.1, radius), (x, y + 0.1, radius), radius, reflectivity=0.08)
    plate = 0.02
    for x in (length / 2 + 0.005, -length / 2 - 0.005):
        b.prism((x, 0, 0.5), (plate, 0.5, 0.12), reflectivity=1.4)
    if rng.random() < 0.1:  # roof box or taxi sign
        b.prism((middle, 0, height + 0.1), (rng.uniform(0.4, 1.4), 0.5, 0.25), reflectivity=0.5)
    return finish('Car', b, margin=rng.uniform(0.01, 0.04))


def van(rng: _Rng) -> Actor:
    """A delivery van or small lorry, labelled Van or Truck: near a car, not one."""
    lorry = rng.random() < 0.35
    length = rng.uniform(5.8, 8.5) if lorry else rng.uniform(4.6, 5.6)
    width = rng.uniform(2.1, 2.5) if lorry else rng.uniform(1.8, 2.05)
    height = rng.uniform(2.7, 3.5) if lorry else rng.uniform(1.95, 2.5)
    paint = float(np.clip(rng.lognormal(np.log(0.4), 0.5), 0.08, 0.85))
    b = Builder()
    nose = rng.uniform(0.8, 1.3)
    b.prism(
        (-nose / 2, 0, 0.35 + (height - 0.35) / 2), (length - nose, width, height - 0.35),
        taper=(0.1, 0.01, 0.06), reflectivity=paint,
    )  # fmt: skip
    low = height * (0.75 if lorry else 0.55)
    b.prism(
        ((length - nose) / 2 - 0.05, 0, 0.3 + (low - 0.3) / 2), (nose + 0.1, width, low - 0.3),
        taper=(0.3, 0.0, 0.08), reflectivity=paint,
    )  # fmt: skip
    for x in (0.33 * length, -0.3 * length):
        for side in (-1, 1):
            y = side * (width / 2 - 0.13)
            b.rod((x, y - 0.12, 0.38), (x, y + 0.12, 0.38), 0.38, reflectivity=0.08)
    return finish('Truck' if lorry else 'Van', b, margin=0.03)


def pedestrian(rng: _Rng) -> Actor:
    """A standing or walking person, at times with coat, backpack, bag or as a child."""
    child = rng.random() < 0.1
    height = rng.uniform(1.05, 1.45) if child else _normal(rng, 1.73, 0.09, 1.48, 1.98)
    s = height / 1.75
    build = rng.uniform(0.85, 1.25)
    walking = rng.random() < 0.7
    swing = rng.uniform(0.1, 0.52) * rng.choice([-1, 1]) if walking else rng.uniform(-0.06, 0.06)
    hip, shoulder, lean = 0.49 * height, 0.82 * height, rng.uniform(-0.02, 0.08) * s
    cloth, trousers = rng.uniform(0.08, 0.6, 2)
    b = Builder()
    for side, angle in ((-1, swing), (1, -swing)):
        foot = (np.sin(angle) * hip, side * 0.09 * s, 0.06)
        b.rod((0, side * 0.085 * s, hip), foot, 0.075 * s * build, reflectivity=trousers)
        b.prism((foot[0] + 0.05 * s, foot[1], 0.045), (0.26 * s, 0.1 * s, 0.09), reflectivity=0.15)
    b.rod(
        (0, 0, hip - 0.06), (lean, 0, shoulder), 0.115 * s * build, wide=0.19 * s * build,
        reflectivity=cloth,
    )  # fmt: skip
    b.ball((lean, 0, height - 0.125 * s), (0.1 * s, 0.08 * s, 0.125 * s), reflectivity=0.35)
    bend = rng.uniform(0, 0.7)
    reach = 0.9 * swing if walking else rng.uniform(-0.1, 0.5)
    for side, angle in ((-1, -reach), (1, reach)):
        y = side * (0.19 * s * build + 0.05 * s)
        elbow = (lean + 0.3 * s * np.sin(angle), y, shoulder - 0.04 - 0.29 * s * np.cos(angle))
        hand = (
            elbow[0] + 0.27 * s * np.sin(angle + bend), y * rng.uniform(0.75, 1.1),
            elbow[2] - 0.27 * s * np.cos(angle + bend),
        )  # fmt: skip
        b.rod((lean, y, shoulder - 0.04), elbow, 0.05 * s, reflectivity=cloth)
        b.rod(elbow, hand, 0.042 * s, reflectivity=cloth)
    extra = rng.random()
    if extra < 0.25:  # coat or skirt
        b.rod(
            (0, 0, rng.uniform(0.3, 0.45) * height), (0, 0, 0.62 * height), 0.17 * s * build,
            wide=0.21 * s * build, reflectivity=cloth,
        )  # fmt: skip
    elif extra < 0.45:  # backpack
        b.prism((lean - 0.22 * s, 0, 0.7 * height), (0.2, 0.3 * s, 0.42 * s), reflectivity=0.3)
    elif extra < 0.6:  # bag in one hand
        b.prism((0.02, -0.3 * s, 0.3 * height), (0.35, 0.12, 0.3), reflectivity=0.3)
    return finish('Pedestrian', b, margin=rng.uniform(0.01, 0.05))


def _bicycle(b: Builder, rng: _Rng) -> tuple[float, float]:
    """Adds a bicycle around the origin; returns half its wheelbase and its saddle height."""
    half, radius = rng.uniform(0.49, 0.56), rng.uniform(0.31, 0.36)
    saddle, paint = rng.uniform(0.88, 1.02), rng.uniform(0.1, 0.6)
    for x in (-half, half):
        b.rod(
            (x, -0.02, radius), (x, 0.02, radius), radius, reflectivity=0.25,
            transmit=rng.uniform(0.55, 0.75),
        )  # fmt: skip
    crank, head = (-0.06, 0, 0.29), (half - 0.17, 0, 0.82)
    b.rod(crank, head, 0.03, reflectivity=paint)
    b.rod(crank, (-0.22, 0, saddle), 0.03, reflectivity=paint)
    b.rod((-0.2, 0, saddle - 0.12), head, 0.028, reflectivity=paint)
    b.rod((half, 0, radius), (half - 0.2, 0, 1.0), 0.03, reflectivity=paint)
    b.rod((half - 0.2, -0.26, 1.02), (half - 0.2, 0.26, 1.02), 0.028, reflectivity=0.2)
    b.prism((-0.24, 0, saddle + 0.02), (0.25, 0.15, 0.06), reflectivity=0.1)
    return half, saddle


def cyclist(rng: _Rng) -> Actor:
    """A bicycle with its rider: upright to sporty, any pedal position."""
    b = Builder()
    half, saddle = _bicycle(b, rng)
    s = _normal(rng, 0.94, 0.07, 0.78, 1.08)
    build = rng.uniform(0.85, 1.2)
    cloth, trousers = rng.uniform(0.08, 0.6, 2)
    hip = (-0.22, 0.0, saddle + 0.08)
    lean, trunk = rng.uniform(0.08, 0.75), 0.54 * s
    neck = (hip[0] + trunk * np.sin(lean), 0.0, hip[2] + trunk * np.cos(lean))
    b.rod(hip, neck, 0.115 * s * build, wide=0.185 * s * build, reflectivity=cloth)
    helmet = rng.random() < 0.4
    head = (neck[0] + 0.06 + 0.05 * lean, 0.0, neck[2] + 0.15 * s)
    b.ball(head, (0.12 if helmet else 0.1, 0.085, 0.125 * s), reflectivity=0.5 if helmet else 0.35)
    phase = rng.uniform(0, 2 * np.pi)
    for side, angle in ((-1, phase), (1, phase + np.pi)):
        pedal = (-0.06 + 0.17 * np.cos(angle), side * 0.12, 0.29 + 0.17 * np.sin(angle))
        knee = (
            (hip[0] + pedal[0]) / 2 + 0.2 * s, side * 0.12,
            (hip[2] + pedal[2]) / 2 + 0.12 * (1 + np.sin(angle)),
        )  # fmt: skip
        b.rod((hip[0], side * 0.09, hip[2]), knee, 0.075 * s * build, reflectivity=trousers)
        b.rod(knee, pedal, 0.055 * s, reflectivity=trousers)
        b.prism((pedal[0] + 0.05, pedal[1], pedal[2]), (0.26, 0.1, 0.08), reflectivity=0.15)
        y = side * 0.2 * s
        hand, elbow = (half - 0.2, side * 0.22, 1.04), (neck[0] * 0.5 + half * 0.45, y * 1.25, 1.17)
        b.rod((neck[0], y, neck[2] - 0.05), elbow, 0.05 * s, reflectivity=cloth)
        b.rod(elbow, hand, 0.042 * s, reflectivity=cloth)
    if rng.random() < 0.25:  # panniers, basket or backpack
        b.prism((-half, 0, 0.62), (0.34, 0.4, 0.32), reflectivity=0.3)
    return finish('Cyclist', b, margin=rng.uniform(0.01, 0.05))


def parked_bicycle(rng: _Rng) -> Actor:
    """A bicycle without rider: no Cyclist, but close to one."""
    b = Builder()
    _bicycle(b, rng)
    return finish('bicycle', b)
