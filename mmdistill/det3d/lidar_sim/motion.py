"""Scenes that move: labelled objects drive and walk straight on, the sensor stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..kitti_format import default_calibration
from .frame import Frame, scan
from .scene import Scene, SceneSettings, compose
from .sensor import Lidar

SPEEDS = {
    'Car': (2.0, 9.0),
    'Van': (2.0, 9.0),
    'Pedestrian': (0.5, 1.6),
    'Cyclist': (1.5, 5.0),
}
"""Slowest and fastest of those that move, metres per second."""
MOVING = 0.6
"""Share of the objects that move."""


def draw_velocities(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """(K, 2) metres per second along x and y of each labelled object, along its heading."""
    found = np.zeros((len(scene.names), 2))
    for row, (name, box) in enumerate(zip(scene.names, scene.boxes, strict=True)):
        if name in SPEEDS and rng.random() < MOVING:
            found[row] = rng.uniform(*SPEEDS[name]) * np.array([np.cos(box[6]), np.sin(box[6])])
    return found


def moved(scene: Scene, velocities: np.ndarray, seconds: float) -> Scene:
    """The scene some time later.

    Args:
        scene: at time 0.
        velocities: (K, 2) metres per second.
        seconds: may be negative.
    """
    shift = np.concatenate([velocities, np.zeros((len(velocities), 1))], 1) * seconds
    boxes = scene.boxes.copy()
    boxes[:, :3] += shift
    # the last row is for solids without an owner, whose number is -1
    by_owner = np.concatenate([shift, np.zeros((1, 3))])
    solids = replace(scene.solids, center=scene.solids.center + by_owner[scene.solids.owner])
    return Scene(solids, scene.ground, scene.names, boxes)


def sequence(
    seed: int,
    index: int,
    times: list[float],
    lidar: Lidar,
    settings: SceneSettings | None = None,
) -> Iterator[tuple[Frame, np.ndarray]]:
    """Sweeps of one scene.

    Args:
        seed: of the data set, not negative.
        index: of the scene, not negative.
        times: of the sweeps in seconds.
        lidar: the sensor.
        settings: what the scene holds.

    Yields:
        A frame and the (K, 2) velocities of its objects.
    """
    rng = np.random.default_rng((seed, index))
    scene = compose(rng, lidar.height, default_calibration(), settings)
    velocities = draw_velocities(scene, rng)
    for time in times:
        yield scan(moved(scene, velocities, time), lidar, rng), velocities
