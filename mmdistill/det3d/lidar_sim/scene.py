"""One scene: draws a street, fills it, and keeps what is labelled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..kitti_format import IMAGE_HW, Calibration
from ..kitti_geometry import snap
from . import actors, scenery
from .actors import Actor
from .layout import Footprints, Ground, Street, draw_ground, draw_street
from .solids import Solids, concatenate

_Rng = np.random.Generator
_Pose = tuple[float, float, float]


@dataclass(frozen=True)
class SceneSettings:
    """What a scene holds.

    Attributes:
        cars: fewest and most cars in view.
        pedestrians: the same for pedestrians.
        cyclists: the same for cyclists.
        clutter: factor on the number of unlabelled things.
        far: metres ahead up to which objects are labelled.
        side: metres to the left and right up to which objects are labelled.
    """

    cars: tuple[int, int] = (3, 8)
    pedestrians: tuple[int, int] = (2, 5)
    cyclists: tuple[int, int] = (2, 4)
    clutter: float = 1.0
    far: float = 44.0
    side: float = 18.0


@dataclass(frozen=True)
class Scene:
    """A scene in the LiDAR frame.

    Attributes:
        solids: of all objects; ``owner`` counts the labelled ones from 0, others have -1.
        ground: the ground.
        names: class name of each labelled object; ``Far`` for those beyond labelling.
        boxes: x, y, z bottom, length, width, height, yaw of each, (K, 7).
    """

    solids: Solids
    ground: Ground
    names: tuple[str, ...]
    boxes: np.ndarray


class _Composer:
    """Fills a street, one object after the other, none through another."""

    def __init__(self, rng: _Rng, height: float, calibration: Calibration, want: SceneSettings):
        self.rng, self.calibration, self.want = rng, calibration, want
        self.street: Street = draw_street(rng)
        self.ground: Ground = draw_ground(rng, self.street, height)
        self.footprints = Footprints()
        self.footprints.add(-1.0, 0.0, 5.5, 2.4, 0.0)  # the car that carries the sensor
        self.solids: list[Solids] = []
        self.names: list[str] = []
        self.boxes: list[np.ndarray] = []

    def put(self, actor: Actor, pose: _Pose, gap: float, label: str | None = None) -> bool:
        """Puts an actor at a street pose (s, l, heading) if nothing is in the way."""
        x, y = self.street.world(pose[0], pose[1])
        yaw = self.street.heading + pose[2]
        length, width, height = actor.size
        if not self.footprints.free(x, y, length, width, yaw, gap):
            return False
        z = float(self.ground.height(x, y))
        owner = -1
        if label is not None:
            size = np.ceil(np.array([length, width, height]) * 100) / 100
            box = snap(np.array([x, y, z, *size, yaw]), self.calibration)
            x, y, z, yaw = *box[:3], box[6]
            owner = len(self.names)
            self.names.append(label)
            self.boxes.append(box)
        self.footprints.add(x, y, length, width, yaw)
        self.solids.append(actor.solids.placed(x, y, z, yaw, owner))
        return True

    def in_view(self, pose: _Pose, near: float, far: float) -> bool:
        """Whether the camera sees a street pose between ``near`` and ``far`` metres ahead."""
        x, y = self.street.world(pose[0], pose[1])
        if not (near <= x <= far and abs(y) <= self.want.side):
            return False
        u, v, _ = self.calibration.pixels(np.array([[x, y, self.ground.base + 0.8]]))[0]
        return 0 <= u < IMAGE_HW[1] and 0 <= v < IMAGE_HW[0]

    def fill(self, make: Callable[[_Rng], Actor], pose: Callable[[], _Pose], gap: float) -> None:
        """Puts one labelled object in view; gives up after 30 places."""
        actor = make(self.rng)
        for _ in range(30):
            place = pose()
            if self.in_view(place, 4.0, self.want.far) and self.put(actor, place, gap, actor.name):
                return

    def scatter(self, make: Callable[[_Rng], Actor], mean: float, edge: float) -> None:
        """Puts a Poisson number of unlabelled things beside the road, up to ``edge`` metres off."""
        street = self.street
        for _ in range(self.rng.poisson(mean * self.want.clutter)):
            actor = make(self.rng)
            for _ in range(6):
                side = self.rng.choice([-1, 1])
                off = street.half + 0.4 + actor.size[1] / 2 + self.rng.uniform(0, edge)
                turn = self.rng.normal(0, 0.1) if self.rng.random() < 0.7 else self.angle()
                s = self.rng.uniform(2, 62)
                if street.in_crossing(s, 1.0):
                    continue
                if self.put(actor, (s, side * off, turn), 0.15):
                    break

    def angle(self) -> float:
        """Any heading."""
        return float(self.rng.uniform(-np.pi, np.pi))

    def along(self) -> float:
        """A place along the street in front of the sensor."""
        return float(self.rng.uniform(3, self.want.far + 6))

    def flip(self) -> float:
        """0 or pi."""
        return float(np.pi * self.rng.integers(0, 2))

    def fronts(self) -> None:
        """Lines both sides of the street with houses, or with green strips and open land."""
        rng, street = self.rng, self.street
        for side in (-1, 1):
            green = rng.random() < 0.3
            set_back = street.half + street.pavement + rng.uniform(0.3, 7.0)
            s = rng.uniform(-25, -5)
            while s < 80:
                if not green and rng.random() < 0.85:
                    front = scenery.building(rng, rng.uniform(7, 20), rng.uniform(6, 11))
                    gap = rng.uniform(3, 9) if rng.random() < 0.4 else rng.uniform(0, 1)
                else:
                    front = scenery.thicket(rng)
                    gap = rng.uniform(0, 8)
                length, depth, _ = front.size
                middle = s + length / 2
                off = set_back + rng.uniform(0, 1.5) + depth / 2
                if not street.in_crossing(middle, length / 2 + 2):
                    self.put(front, (middle, side * off, 0.0), 0.0)
                s += length + gap

    def car_pose(self) -> _Pose:
        """A car's place: in a lane, parked along or across, on the side road, in a yard."""
        rng, street, mode = self.rng, self.street, self.rng.random()
        s = self.along()
        if mode < 0.18:
            return s, -street.half * rng.uniform(0.3, 0.6), rng.normal(0, 0.05)
        if mode < 0.38:
            return s, street.half * rng.uniform(0.3, 0.6), np.pi + rng.normal(0, 0.05)
        if mode < 0.72:
            side = rng.choice([-1, 1])
            return s, side * (street.half - 1.05), rng.normal(0, 0.05) + self.flip()
        if mode < 0.86 and street.crossing is not None:
            lane = rng.choice([-1, 1])
            s = street.crossing + lane * street.crossing_half * 0.5
            return s, rng.uniform(-18, 18), lane * np.pi / 2 + rng.normal(0, 0.08)
        side = rng.choice([-1, 1])
        off = street.half + rng.uniform(2.2, street.pavement + 7)
        return s, side * off, np.pi / 2 * rng.choice([-1, 1]) + rng.normal(0, 0.15)

    def pedestrian_pose(self) -> _Pose:
        """A pedestrian's place: on a pavement, crossing, between parked cars, in a yard."""
        rng, street, mode = self.rng, self.street, self.rng.random()
        side = rng.choice([-1, 1])
        s = self.along()
        if mode < 0.55:
            off = street.half + rng.uniform(0.3, street.pavement)
            return s, side * off, rng.normal(0, 0.3) + self.flip()
        if mode < 0.75:
            return s, rng.uniform(-1, 1) * street.half, side * np.pi / 2 + rng.normal(0, 0.3)
        if mode < 0.88:
            return s, side * (street.half - rng.uniform(0, 1.8)), self.angle()
        return s, side * (street.half + street.pavement + rng.uniform(0, 5)), self.angle()

    def cyclist_pose(self) -> _Pose:
        """A cyclist's place: at the kerb, on the pavement, turning, on the side road."""
        rng, street, mode = self.rng, self.street, self.rng.random()
        side = rng.choice([-1, 1])
        s = self.along()
        if mode < 0.6:
            heading = (0 if side < 0 else np.pi) + rng.normal(0, 0.12)
            return s, side * (street.half - rng.uniform(0.4, 2.6)), heading
        if mode < 0.8:
            off = street.half + rng.uniform(0.4, street.pavement)
            return s, side * off, rng.normal(0, 0.2) + self.flip()
        return s, rng.uniform(-14, 14), self.angle()

    def far_pose(self) -> _Pose:
        """A place in a lane beyond the labelled range."""
        side = self.rng.choice([-1, 1])
        s = self.rng.uniform(self.want.far + 5, 74)
        return s, side * self.street.half * 0.5, 0.0 if side < 0 else np.pi


def compose(
    rng: _Rng, height: float, calibration: Calibration, settings: SceneSettings | None = None
) -> Scene:
    """Draws a scene.

    Args:
        rng: source of everything in it.
        height: of the sensor above the road in metres.
        calibration: whose camera says what is in view, and on whose label grid boxes lie.
        settings: what the scene holds.
    """
    want = settings or SceneSettings()
    c = _Composer(rng, height, calibration, want)
    c.fronts()
    if rng.random() < 0.3:
        c.fill(actors.van, c.car_pose, 0.5)
    jobs = (
        [(actors.car, c.car_pose, 0.4)] * rng.integers(want.cars[0], want.cars[1] + 1)
        + [(actors.pedestrian, c.pedestrian_pose, 0.15)]
        * rng.integers(want.pedestrians[0], want.pedestrians[1] + 1)
        + [(actors.cyclist, c.cyclist_pose, 0.25)]
        * rng.integers(want.cyclists[0], want.cyclists[1] + 1)
    )
    for make, pose, gap in jobs:
        c.fill(make, pose, gap)
    for _ in range(rng.integers(0, 4)):
        pose = c.far_pose()
        if c.in_view(pose, want.far + 2, 76):
            c.put(actors.car(rng), pose, 0.5, 'Far')
    pavement = c.street.pavement
    c.scatter(scenery.hedge, 1.2, pavement + 5)
    c.scatter(scenery.fence, 0.9, pavement + 4)
    c.scatter(scenery.tree, 4.0, pavement + 6)
    c.scatter(scenery.bush, 5.0, pavement + 5)
    c.scatter(scenery.pole, 3.0, pavement)
    c.scatter(scenery.sign, 2.0, pavement)
    c.scatter(scenery.bin_, 2.5, pavement + 3)
    c.scatter(scenery.bollard, 1.5, pavement)
    c.scatter(scenery.column, 1.5, pavement + 2)
    c.scatter(scenery.skip, 0.7, pavement + 4)
    c.scatter(actors.parked_bicycle, 1.2, pavement)
    boxes = np.array(c.boxes).reshape(-1, 7)
    return Scene(concatenate(c.solids), c.ground, tuple(c.names), boxes)
