"""Boxes between the camera, the LiDAR and the image, against hand and mmdet3d."""

import numpy as np
import pytest
import torch
from mmdet3d.structures import CameraInstance3DBoxes, LiDARInstance3DBoxes
from mmdet3d.structures.bbox_3d import Box3DMode
from mmdet3d.structures.ops.box_np_ops import points_in_rbbox, remove_outside_points

from mmdistill.det3d.kitti_format import Calibration, KittiObject, default_calibration, extend
from mmdistill.det3d.kitti_geometry import (
    points_in_box,
    projected_box,
    snap,
    to_label,
    to_lidar_boxes,
    wrap,
)

RIG = default_calibration()
AXES = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0]])


def _plain_rig() -> Calibration:
    """Focal length 100, principal point (621, 187), LiDAR in the camera."""
    projection = np.array([[100.0, 0, 621, 0], [0, 100, 187, 0], [0, 0, 1, 0]])
    return Calibration(np.stack([projection] * 4), np.eye(3), AXES, AXES)


def _boxes(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.column_stack(
        [
            rng.uniform(6, 45, n),
            rng.uniform(-3, 3, n),
            rng.uniform(-2, -1, n),
            rng.uniform(0.5, 5, (n, 3)),
            rng.uniform(-np.pi, np.pi, n),
        ]
    )


def test_boxes_are_those_of_mmdet3d():
    labels = [to_label('Car', box, RIG) for box in _boxes(50)]
    camera = np.array([[*o.location, *np.roll(o.dimensions, 1), o.rotation_y] for o in labels])
    theirs = CameraInstance3DBoxes(torch.tensor(camera)).convert_to(
        Box3DMode.LIDAR, np.linalg.inv(RIG.lidar2cam)
    )
    ours = to_lidar_boxes(labels, RIG)
    np.testing.assert_allclose(ours[:, :6], theirs.tensor[:, :6].numpy(), atol=1e-4)
    turn = wrap(ours[:, 6] - theirs.tensor[:, 6].numpy())
    np.testing.assert_allclose(turn, 0, atol=1e-5)


def test_labels_and_boxes_are_inverse():
    boxes = _boxes(50)
    labels = [to_label('Car', box, RIG) for box in boxes]
    np.testing.assert_allclose(to_lidar_boxes(labels, RIG), boxes, atol=1e-9)
    assert to_lidar_boxes([], RIG).shape == (0, 7)


def test_snapped_boxes_survive_the_text_of_a_label_file():
    for box in _boxes(30):
        snapped = snap(box, RIG)
        assert np.abs(snapped - box)[:6].max() < 0.01
        fields = to_label('Car', snapped, RIG).line().split()
        numbers = [float(v) for v in fields[8:]]
        read = KittiObject(
            'Car', 0, 0, 0, (0, 0, 0, 0), tuple(numbers[:3]), tuple(numbers[3:6]), numbers[6]
        )
        np.testing.assert_allclose(to_lidar_boxes([read], RIG)[0], snapped, atol=1e-9)


def test_projection_by_hand():
    rig = _plain_rig()
    box = np.array([11.0, 0, -1, 2, 4, 3, 0])  # nearest face at 10 m
    left, top, right, bottom = projected_box(box, rig)
    assert (left, right) == (pytest.approx(621 - 20), pytest.approx(621 + 20))
    assert (top, bottom) == (pytest.approx(187 - 20), pytest.approx(187 + 10))


def test_truncation_by_hand():
    rig = _plain_rig()
    inside = to_label('Car', np.array([11.0, 0, -1, 2, 4, 3, 0]), rig)
    assert inside.truncated == 0
    # Seen from 581 to 701 px further right, half of it beyond the last column (1241).
    half = to_label('Car', np.array([10.0, -62.0, -1, 1e-6, 12, 3, 0]), rig)
    assert half.truncated == pytest.approx(0.5, abs=1e-4)
    assert half.bbox[2] == 1241
    outside = to_label('Car', np.array([-20.0, 0, -1, 2, 4, 3, 0]), rig)
    assert outside.truncated == 1


def test_boxes_beside_the_camera_project_without_what_lies_behind():
    rig = _plain_rig()
    box = np.array([1.0, 2.0, -1, 6, 1, 2, 0])  # reaches 2 m behind the camera
    left, _, right, _ = projected_box(box, rig, near=0.5)
    assert right < 621 and left == pytest.approx(621 - 100 * 2.5 / 0.5)


def test_observation_angle_is_heading_against_the_line_of_sight():
    rig = _plain_rig()
    ahead = to_label('Car', np.array([20.0, 0, -1, 4, 2, 1.5, 0]), rig)
    assert ahead.rotation_y == pytest.approx(-np.pi / 2)
    assert ahead.alpha == pytest.approx(-np.pi / 2)
    # The same view of a car on a ray at 45 degrees means a heading turned by 45 degrees.
    aside = to_label('Car', np.array([20.0, -20, -1, 4, 2, 1.5, -np.pi / 4]), rig)
    assert aside.alpha == pytest.approx(ahead.alpha)


def test_points_in_boxes_are_those_of_mmdet3d():
    rng = np.random.default_rng(2)
    boxes = _boxes(8)
    points = np.concatenate([b[:3] + rng.normal(0, 1.5, (400, 3)) for b in boxes])
    theirs = points_in_rbbox(points, boxes)  # bottom centre, as KITTI's
    ours = np.stack([points_in_box(points, box) for box in boxes], axis=1)
    np.testing.assert_array_equal(ours, theirs)
    assert 0.05 < ours.any(1).mean() < 0.9
    one = LiDARInstance3DBoxes(torch.tensor(boxes[:1], dtype=torch.float32))
    corners = one.corners[0].numpy()
    shrunk = one.gravity_center[0].numpy() + 0.99 * (corners - one.gravity_center[0].numpy())
    assert points_in_box(shrunk, boxes[0]).all()


def test_points_in_image_are_those_of_mmdet3d():
    rng = np.random.default_rng(3)
    points = rng.uniform([-20, -40, -3], [60, 40, 6], (4000, 3))
    kept = remove_outside_points(
        points, extend(RIG.rect), extend(RIG.velo_to_cam), extend(RIG.projections[2]), (375, 1242)
    )
    np.testing.assert_allclose(points[RIG.in_image(points)], kept)


def test_wrap():
    angles = wrap(np.array([0, np.pi, -np.pi, 3 * np.pi / 2, -7.0]))
    np.testing.assert_allclose(angles, [0, -np.pi, -np.pi, -np.pi / 2, -7 + 2 * np.pi])
