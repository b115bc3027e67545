"""What is on the road: moving and parked vehicles, riders, people who cross."""

from __future__ import annotations

import numpy as np

from .brush import Place
from .ground import Ground
from .people import Pedestrian, TwoWheeler
from .styles import Style
from .vehicles import CAR_SHAPES, Vehicle

_Rng = np.random.Generator
_NEAREST = 6.5


def draw_vehicle(rng: _Rng, place: Place, style: Style) -> Vehicle:
    """A car, or now and then a truck or a bus."""
    truck, bus = style.heavy
    kind = rng.random()
    if kind < truck:
        return Vehicle(place, 'truck', float(rng.uniform(0.85, 1.05)))
    if kind < truck + bus:
        return Vehicle(place, 'bus', float(rng.uniform(0.9, 1.05)))
    return Vehicle(place, str(rng.choice(CAR_SHAPES)), float(rng.uniform(0.9, 1.08)))


def draw_pedestrian(rng: _Rng, s: float, z: float, yaw: float) -> Pedestrian:
    """Somebody who walks towards ``yaw``, or stands."""
    tall = rng.uniform(1.55, 1.9) if rng.random() < 0.9 else rng.uniform(1.0, 1.4)
    stride = rng.uniform(0.12, 0.34) if rng.random() < 0.75 else 0.04
    return Pedestrian(Place(s, z, yaw), float(tall), float(stride), bool(rng.random() < 0.25))


def fill_road(rng: _Rng, plot, ground: Ground, style: Style, offset: float, far: float) -> None:
    """Places all that is on the road.

    Args:
        rng: source of randomness.
        plot: takes the things.
        ground: the road.
        style: densities.
        offset: s of the camera, whose lane stays free just ahead.
        far: end of the street in metres.
    """
    lines = sorted({-ground.half + 0.6, *ground.lanes, ground.half - 0.6})
    park = ground.half - 1.05
    for side in (-1, 1):
        if rng.random() < style.parking:
            _park(rng, plot, side * park, far, style, ground)
    if ground.junction is not None and rng.random() < 0.5:  # somebody crosses the street
        middle = sum(ground.junction) / 2
        heading = float(rng.choice((-1, 1)))
        place = Place(rng.uniform(-9, 9), middle - 2.4 * heading, heading * np.pi / 2)
        plot.add(draw_vehicle(rng, place, style))
    for left, right in zip(lines, lines[1:], strict=False):
        middle = (left + right) / 2
        own = left <= offset <= right
        z = rng.uniform(10, 26) if own else rng.uniform(_NEAREST, 20)
        yaw = 0.0 if middle > ground.lanes[0] - 0.2 else np.pi
        while z < far:
            place = Place(middle + rng.normal(0, 0.2), z, yaw + rng.normal(0, 0.02))
            plot.add(draw_vehicle(rng, place, style), gap=0.3)
            z += 8 + rng.exponential(100 / style.cars * 0.75)
    for _ in range(rng.poisson(style.riders)):
        side = float(rng.choice((-1, 1), p=(0.35, 0.65)))
        yaw = (0.0 if side > 0 else np.pi) + rng.normal(0, 0.12)
        place = Place(side * (ground.half - rng.uniform(0.7, 2.2)), rng.uniform(6.5, 24), yaw)
        plot.add(TwoWheeler(place, bool(rng.random() < style.motors), True))
    if ground.junction is not None and ground.zebra:
        for _ in range(rng.poisson(0.8)):
            z = ground.junction[0] - rng.uniform(1.2, 3.2)
            s = rng.uniform(-1, 1) * ground.half
            plot.add(draw_pedestrian(rng, s, z, float(rng.choice((-1, 1))) * np.pi / 2))


def _park(rng: _Rng, plot, s: float, far: float, style: Style, ground: Ground) -> None:
    """Places a row of parked vehicles, with gaps."""
    z = rng.uniform(_NEAREST, 14)
    while z < far:
        crossing = ground.junction is not None and (
            ground.junction[0] - 6 < z < ground.junction[1] + 3
        )
        if rng.random() < 0.62 and not crossing:
            yaw = (0.0 if s > 0 else np.pi) + rng.normal(0, 0.03)
            plot.add(draw_vehicle(rng, Place(s + rng.normal(0, 0.08), z, yaw), style))
        z += rng.uniform(5.6, 7.0)
