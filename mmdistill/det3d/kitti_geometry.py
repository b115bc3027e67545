"""Boxes between KITTI's camera frame, the LiDAR frame and the image. Numpy only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .kitti_format import IMAGE_HW, Calibration, KittiObject


def to_lidar_boxes(objects: list[KittiObject], calibration: Calibration) -> np.ndarray:
    """3D boxes of labelled objects in the LiDAR frame.

    Only the location is moved by the calibration; the heading follows
    ``yaw = -rotation_y - pi/2`` as in mmdet3d, the few tenths of a degree
    between the two up axes are left out.

    Returns:
        float64 (N, 7): x, y, z of the bottom centre, length, width, height, yaw.
    """
    if not objects:
        return np.zeros((0, 7))
    h, w, length = np.array([o.dimensions for o in objects]).T
    location = calibration.to_lidar(np.array([o.location for o in objects]))
    yaw = wrap(-np.array([o.rotation_y for o in objects]) - np.pi / 2)
    return np.column_stack([location, length, w, h, yaw])


def to_label(
    name: str,
    box: np.ndarray,
    calibration: Calibration,
    occluded: int = 0,
    image_hw: tuple[int, int] = IMAGE_HW,
) -> KittiObject:
    """The label of one LiDAR box (7,), with its 2D box, truncation and observation angle.

    The 2D box is the projection of the 3D box clipped to the image; truncation
    is the share of its area that the clipping took. A box that does not meet
    the image gets truncation 1.
    """
    x, y, z = calibration.to_camera(np.asarray(box[None, :3], dtype=np.float64))[0]
    rotation = float(wrap(-box[6] - np.pi / 2))
    full = projected_box(box, calibration)
    height, width = image_hw
    clipped = np.clip(full, 0, [width - 1, height - 1, width - 1, height - 1])
    area = (full[2] - full[0]) * (full[3] - full[1])
    inside = (clipped[2] - clipped[0]) * (clipped[3] - clipped[1])
    return KittiObject(
        name=name,
        truncated=float(np.clip(1 - inside / max(area, 1e-9), 0, 1)),
        occluded=occluded,
        alpha=float(wrap(rotation - np.arctan2(x, z))),
        bbox=tuple(clipped.tolist()),
        dimensions=(float(box[5]), float(box[4]), float(box[3])),
        location=(float(x), float(y), float(z)),
        rotation_y=rotation,
    )


def snap(box: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Moves a LiDAR box (7,) to the nearest one that a label file (two decimals) can hold."""
    label = to_label('Snap', box, calibration)
    rounded = replace(
        label,
        dimensions=tuple(round(v, 2) for v in label.dimensions),
        location=tuple(round(v, 2) for v in label.location),
        rotation_y=round(label.rotation_y, 2),
    )
    return to_lidar_boxes([rounded], calibration)[0]


_UNIT_CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (0, 1)])
_EDGES = [(i, j) for i in range(8) for j in range(i) if (i ^ j) in (1, 2, 4)]


def projected_box(box: np.ndarray, calibration: Calibration, near: float = 0.1) -> np.ndarray:
    """Left, top, right, bottom (4,) in pixels of a box's part at least ``near`` metres ahead."""
    c, s = np.cos(box[6]), np.sin(box[6])
    corners = _UNIT_CORNERS * box[3:6] @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + box[:3]
    matrix = calibration.lidar2img
    points = corners @ matrix[:3, :3].T + matrix[:3, 3]
    front = [p for p in points if p[2] >= near]
    for i, j in _EDGES:
        a, b = points[i], points[j]
        if (a[2] < near) != (b[2] < near):
            front.append(a + (b - a) * (near - a[2]) / (b[2] - a[2]))
    if not front:
        return np.zeros(4)
    pixels = np.array(front)
    pixels = pixels[:, :2] / pixels[:, 2:]
    return np.concatenate([pixels.min(0), pixels.max(0)])


def points_in_box(points: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Says which of (N, 3+) LiDAR points lie in the box (7,), faces included, bool (N,)."""
    x, y = points[:, 0] - box[0], points[:, 1] - box[1]
    c, s = np.cos(box[6]), np.sin(box[6])
    z = points[:, 2] - box[2]
    along, across = np.abs(c * x + s * y), np.abs(c * y - s * x)
    return (along <= box[3] / 2) & (across <= box[4] / 2) & (z >= 0) & (z <= box[5])


def wrap(angle: np.ndarray | float) -> np.ndarray:
    """Wraps angles in radians to [-pi, pi)."""
    return (np.asarray(angle) + np.pi) % (2 * np.pi) - np.pi
