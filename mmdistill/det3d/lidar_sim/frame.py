"""One frame: the points of a scene and how much of each object they show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..kitti_format import Calibration, default_calibration
from .raycast import cast
from .scene import Scene, SceneSettings, compose
from .sensor import Lidar


@dataclass(frozen=True)
class Frame:
    """A sweep over a scene.

    Attributes:
        points: x, y, z in metres and intensity, beam by beam, float32 (N, 4).
        ray: grid index (beam * columns + column) of each point, int (N,).
        owner: labelled object each point lies on, -1 for others, int (N,).
        phase: start of the sweep within one azimuth step, see :meth:`Lidar.azimuths`.
        scene: what was scanned.
        alone: rays that would meet each labelled object if nothing hid it, int (K,).
        visible: rays that do meet it first, int (K,).
    """

    points: np.ndarray
    ray: np.ndarray
    owner: np.ndarray
    phase: float
    scene: Scene
    alone: np.ndarray
    visible: np.ndarray

    def occlusion(self) -> np.ndarray:
        """KITTI's occlusion state of each labelled object from its visible share, int (K,).

        0 from 80 % on, 1 from 45 %, 2 from 10 %, else (or below five rays) 3.
        """
        share = self.visible / np.maximum(self.alone, 1)
        state = np.select([share >= 0.8, share >= 0.45, share >= 0.1], [0, 1, 2], 3)
        return np.where((self.visible < 5) & (state > 0), 3, state)


def scan(scene: Scene, lidar: Lidar, rng: np.random.Generator) -> Frame:
    """Sweeps a scene once."""
    phase = float(rng.random())
    rays = lidar.rays(phase)
    hits = cast(scene.solids, lidar, rays, rng)
    soil = scene.ground.distance(rays, lidar.max_range)
    on_soil = soil < hits.distance
    distance = np.where(on_soil, soil, hits.distance)
    solid = np.where(on_soil, -1, hits.solid)

    x, y = (distance[on_soil, None] * rays[on_soil, :2]).T
    road = scene.ground.street.on_road(x, y)
    reflectivity = scene.solids.reflectivity[hits.solid]
    reflectivity[on_soil] = np.where(road, 0.16, 0.28)
    cosine = hits.cosine.copy()
    cosine[on_soil] = np.abs(rays[on_soil] @ scene.ground.plane()[:3])

    count = len(scene.names)
    owner = np.where(solid >= 0, scene.solids.owner[solid], -1)
    visible = np.bincount(owner[owner >= 0], minlength=count)
    whose = scene.solids.owner[hits.pair_solid]
    pairs = np.unique((whose * len(rays) + hits.pair_ray)[whose >= 0])
    alone = np.bincount(pairs // len(rays), minlength=count)

    seen = np.flatnonzero(np.isfinite(distance) & (distance > 0.9))
    kept, measured, intensity = lidar.detect(distance[seen], cosine[seen], reflectivity[seen], rng)
    ray = seen[kept]
    points = np.column_stack([measured[kept, None] * rays[ray], intensity[kept]])
    return Frame(points.astype(np.float32), ray, owner[ray], phase, scene, alone, visible)


def simulate(
    seed: int,
    index: int,
    lidar: Lidar | None = None,
    settings: SceneSettings | None = None,
    calibration: Calibration | None = None,
) -> Frame:
    """Makes frame ``index`` of the data set ``seed``.

    Args:
        seed: of the data set, not negative.
        index: of the frame, not negative.
        lidar: the sensor; the default has 48 beams and looks 50 degrees to each side.
        settings: what a scene holds.
        calibration: of the camera that decides which objects are in view.
    """
    lidar = lidar or Lidar()
    calibration = calibration or default_calibration()
    rng = np.random.default_rng((seed, index))
    scene = compose(rng, lidar.height, calibration, settings)
    return scan(scene, lidar, rng)
