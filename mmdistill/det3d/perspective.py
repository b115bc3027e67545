"""Perspective views of LiDAR scenes: a pinhole camera, and boxes as strokes in space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmdistill.det3d.bev_plot import outlines

EDGES = [(0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4)] + [
    (each, each + 4) for each in range(4)
]
FRONT = [0, 1, 5, 4]
"""Corners of a box's front, see :func:`corners`."""
ABOVE_GROUND = 3.0
"""Height in metres of an area that is looked at."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that stands upright.

    Attributes:
        position: (3,) x, y, z in the LiDAR frame, metres.
        target: (3,) the place that it looks at, not straight above or below it.
    """

    position: np.ndarray
    target: np.ndarray

    @classmethod
    def behind(
        cls, lower: np.ndarray, upper: np.ndarray, elevation: float = 0.5, azimuth: float = 0.3
    ) -> Camera:
        """Looks at the middle of an area from outside of it.

        Args:
            lower: (3,) corner of the area.
            upper: (3,) the opposite corner.
            elevation: angle above the horizon, radians.
            azimuth: angle from straight behind to the right, radians.
        """
        target = (np.asarray(lower, float) + upper) / 2
        distance = 0.75 * float(np.linalg.norm(np.subtract(upper, lower)))
        level = np.cos(elevation)
        away = [-level * np.cos(azimuth), -level * np.sin(azimuth), np.sin(elevation)]
        return cls(target + distance * np.array(away), target)

    @property
    def distance(self) -> float:
        """Metres to the target."""
        return float(np.linalg.norm(self.target - self.position))

    def project(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where places are seen.

        Args:
            places: (..., 3) in metres.

        Returns:
            (..., 2) right and up in the picture, the tangents of the angles; NaN for places that
            are nearer than a tenth of the target's distance. And (...) depths in metres.
        """
        forward = (self.target - self.position) / self.distance
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        seen = np.asarray(places, float) - self.position
        depth = seen @ forward
        depth = np.where(depth < 0.1 * self.distance, np.nan, depth)
        flat = np.stack([seen @ right, seen @ np.cross(right, forward)], -1)
        return flat / depth[..., None], depth


def corners(boxes: np.ndarray) -> np.ndarray:
    """(N, 8, 3) corners: bottom then top, each front right, front left, rear left, rear right.

    Args:
        boxes: (N, 7 or more) [x, y, z_bottom, dx, dy, dz, yaw, ...].
    """
    boxes = np.asarray(boxes, float)
    ground = np.tile(outlines(boxes)[:, :4], (1, 2, 1))
    height = np.repeat(np.stack([boxes[:, 2], boxes[:, 2] + boxes[:, 5]], 1), 4, axis=1)
    return np.concatenate([ground, height[..., None]], -1)


def wires(boxes: np.ndarray) -> np.ndarray:
    """(N, 13, 2, 3) strokes: the 12 edges, and one on top from the centre to the front."""
    found = corners(boxes)
    edges = found[:, EDGES]
    top = found[:, 4:]
    stroke = np.stack([top.mean(1), top[:, :2].mean(1)], 1)
    return np.concatenate([edges, stroke[:, None]], 1)


def focus(
    points: np.ndarray, boxes: np.ndarray, point_cloud_range: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the area with nearly all points and boxes, within the range.

    Args:
        points: (P, 3) that lie in the range.
        boxes: (N, 7 or more) that lie in the range.
        point_cloud_range: [x0, y0, z0, x1, y1, z1] in metres.

    Returns:
        (3,) lower and (3,) upper corner; the lower one is on the ground, 3 m below the upper one.
    """
    limits = np.asarray(point_cloud_range, float).reshape(2, 3)
    if len(points) == 0:
        lower, upper, ground = *limits[:, :2], limits[0, 2]
    else:
        lower, upper = np.quantile(points[:, :2], [0.02, 0.98], axis=0)
        ground = np.quantile(points[:, 2], 0.1)
    if len(boxes):
        lower = np.minimum(lower, boxes[:, :2].min(0) - 3)
        upper = np.maximum(upper, boxes[:, :2].max(0) + 3)
    lower, upper = np.clip([lower, upper], *limits[:, :2])
    return np.append(lower, ground), np.append(upper, ground + ABOVE_GROUND)
