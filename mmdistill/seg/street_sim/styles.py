"""How streets of the two domains are laid out."""

from __future__ import annotations

from dataclasses import dataclass

Range = tuple[float, float]


@dataclass(frozen=True)
class Style:
    """Statistics of a domain's scenes: ranges in metres, chances, densities.

    Attributes:
        focal: focal length as a share of the picture's width.
        horizon: mean and standard deviation of its height as shares of the picture's.
        tall: height of the camera.
        offset: place of the camera across the right half of the road, shares.
        curve: standard deviation of the road's curvature, 1/m.
        lanes: chances of 2, 3 and 4 lanes.
        lane: width of a lane.
        parking: share of roads' edges where cars park.
        walk: width of a sidewalk.
        verge: chance of grass between road and sidewalk.
        green: chance of grass behind the sidewalk.
        junction: chance of a crossing road.
        junction_at: where it begins.
        sides: chances of what lines a stretch of the street: houses, wall, fence, park, nothing.
        stretch: length of such a stretch.
        setback: from the sidewalk to the houses.
        house: height of houses.
        roof: chance of a roof that is not flat.
        cars: cars per 100 m of lane.
        people: pedestrians per 100 m of sidewalk.
        trees: trees per 100 m of sidewalk.
        poles: poles per 100 m of sidewalk.
        signs: share of poles with a sign.
        riders: riders in a picture, mean.
        heavy: share of vehicles that are trucks, and that are buses.
        cycles: parked bicycles per 100 m of sidewalk.
        motors: share of two-wheelers that have a motor.
        clutter: bins and boxes per 100 m of sidewalk.
        bonnet: chance to see the own bonnet.
    """

    focal: Range
    horizon: Range
    tall: Range
    offset: Range
    curve: float
    lanes: tuple[float, float, float]
    lane: Range
    parking: float
    walk: Range
    verge: float
    green: float
    junction: float
    junction_at: Range
    sides: tuple[float, float, float, float, float]
    stretch: Range
    setback: Range
    house: Range
    roof: float
    cars: float
    people: float
    trees: float
    poles: float
    signs: float
    riders: float
    heavy: tuple[float, float]
    cycles: float
    motors: float
    clutter: float
    bonnet: float


STYLES = {
    'source': Style(
        focal=(0.8, 0.9), horizon=(0.44, 0.02), tall=(1.7, 2.1), offset=(0.35, 0.55),
        curve=0.0006, lanes=(0.35, 0.25, 0.4), lane=(3.3, 3.8), parking=0.2,
        walk=(3.0, 4.5), verge=0.25, green=0.35, junction=0.3, junction_at=(12.0, 36.0),
        sides=(0.56, 0.12, 0.12, 0.15, 0.05), stretch=(14.0, 30.0), setback=(0.2, 2.0),
        house=(7.0, 24.0), roof=0.3, cars=2.6, people=6.0, trees=4.5, poles=4.5, signs=0.45,
        riders=0.16, heavy=(0.009, 0.008), cycles=1.4, motors=0.2, clutter=1.2, bonnet=0.15,
    ),
    'target': Style(
        focal=(0.9, 1.12), horizon=(0.48, 0.035), tall=(1.2, 1.45), offset=(0.15, 0.6),
        curve=0.0014, lanes=(0.65, 0.2, 0.15), lane=(2.8, 3.4), parking=0.55,
        walk=(1.8, 3.8), verge=0.2, green=0.3, junction=0.35, junction_at=(9.0, 32.0),
        sides=(0.58, 0.1, 0.1, 0.17, 0.05), stretch=(10.0, 26.0), setback=(0.0, 3.0),
        house=(6.0, 17.0), roof=0.55, cars=2.2, people=9.0, trees=6.0, poles=5.5, signs=0.5,
        riders=0.22, heavy=(0.009, 0.008), cycles=3.0, motors=0.2, clutter=1.8, bonnet=0.6,
    ),
}  # fmt: skip
"""The style of each domain."""
