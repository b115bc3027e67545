"""Laws of the points-in-boxes tests."""

import math

import pytest
import torch

from mmdistill.det3d import box_points
from mmdistill.det3d.boxes import points_in_batch_boxes, points_in_boxes

SCENE = torch.tensor([70.0, 80.0, 4.0])


def draw(num_points, batch, num_boxes, seed=0):
    """Points of a scene with boxes of car to van size, float32."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(num_points, 3, generator=generator) * SCENE - SCENE * 0.5
    boxes = torch.rand(batch, num_boxes, 7, generator=generator)
    boxes[..., :3] = boxes[..., :3] * SCENE - SCENE * 0.5
    boxes[..., 3:6] = boxes[..., 3:6] * 6 + 0.5
    boxes[..., 6] = boxes[..., 6] * 12 - 6
    batch_idx = torch.randint(batch, (num_points,), generator=generator)
    return points, batch_idx, boxes


def reference(points, boxes):
    """Point by point, box by box, in float64."""
    out = torch.zeros(len(points), len(boxes), dtype=torch.bool)
    for i, (px, py, pz) in enumerate(points.double().tolist()):
        for j, (x, y, z, dx, dy, dz, yaw) in enumerate(boxes.double().tolist()):
            along = (px - x) * math.cos(yaw) + (py - y) * math.sin(yaw)
            across = (py - y) * math.cos(yaw) - (px - x) * math.sin(yaw)
            flat = abs(along) <= dx / 2 and abs(across) <= dy / 2
            out[i, j] = flat and z <= pz <= z + dz
    return out


def test_equals_the_float64_loop():
    points, _, boxes = draw(3000, 1, 20)
    inside = points_in_boxes(points, boxes[0])
    assert inside.shape == (3000, 20)
    assert inside.sum() > 50
    assert torch.equal(inside, reference(points, boxes[0]))


def test_equals_mmcv():
    ops = pytest.importorskip('mmcv.ops')
    points, _, boxes = draw(20000, 1, 30, seed=1)
    theirs = ops.points_in_boxes_cpu(points[None], boxes)[0].bool()
    assert theirs.sum() > 500
    assert torch.equal(points_in_boxes(points, boxes[0]), theirs)


def test_each_point_sees_the_boxes_of_its_own_sample_in_any_order():
    points, batch_idx, boxes = draw(6000, 4, 15, seed=2)
    inside = points_in_batch_boxes(points, batch_idx, boxes)
    for sample in range(4):
        own = batch_idx == sample
        assert torch.equal(inside[own], points_in_boxes(points[own], boxes[sample]))
    order = batch_idx.argsort(stable=True)
    in_blocks = points_in_batch_boxes(points[order], batch_idx[order], boxes)
    assert torch.equal(in_blocks, inside[order])


def test_dense_path_of_other_devices_equals_the_cpu_path():
    points, batch_idx, boxes = draw(6000, 3, 15, seed=3)
    dense = box_points._inside(points[:, None], boxes[batch_idx])
    assert torch.equal(points_in_batch_boxes(points, batch_idx, boxes), dense)


def test_padding_holds_nothing():
    points, batch_idx, boxes = draw(4000, 2, 10, seed=4)
    valid = torch.zeros(2, 10, dtype=torch.bool)
    valid[0, :4] = valid[1, 7] = True
    everything = points_in_batch_boxes(points, batch_idx, boxes)
    kept = points_in_batch_boxes(points, batch_idx, boxes, valid)
    assert torch.equal(kept, everything & valid[batch_idx])
    assert not points_in_batch_boxes(points, batch_idx, boxes, torch.zeros_like(valid)).any()


def test_faces_belong_to_the_box_and_z_is_the_bottom():
    box = torch.tensor([[10.0, 0.0, -1.0, 4.0, 2.0, 2.0, 0.0]])
    on = torch.tensor([[12.0, 0, 0], [8, 0, 0], [10, 1, 0], [10, 0, -1], [10, 0, 1], [12, -1, 1]])
    assert points_in_boxes(on, box).all()
    off = torch.tensor([[12.01, 0, 0], [10, 1.01, 0], [10, 0, -1.01], [10, 0, 1.01]])
    assert not points_in_boxes(off, box).any()


def test_huge_boxes_and_far_points_survive_the_coarse_filter():
    points = torch.tensor([[900.0, 0, 0], [-900, 10, 0], [5000, 4000, 0]])
    boxes = torch.tensor([[0.0, 0, -1, 2000, 50, 2, 0], [5000, 4000, -1, 0.1, 0.1, 2, 1]])
    expected = torch.tensor([[True, False], [True, False], [False, True]])
    assert torch.equal(points_in_boxes(points, boxes), expected)


def test_autocast_changes_nothing():
    points, batch_idx, boxes = draw(3000, 2, 10, seed=5)
    expected = points_in_batch_boxes(points, batch_idx, boxes)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(points_in_batch_boxes(points, batch_idx, boxes), expected)


def test_nothing_in_nothing_out():
    assert points_in_boxes(torch.zeros(0, 4), torch.zeros(3, 7)).shape == (0, 3)
    assert points_in_boxes(torch.zeros(5, 4), torch.zeros(0, 7)).shape == (5, 0)


def test_wrong_input_is_named():
    points, batch_idx, boxes = draw(5, 1, 2)
    with pytest.raises(ValueError, match='4 batch indices for 5 points'):
        points_in_batch_boxes(points, batch_idx[:4], boxes)
    with pytest.raises(ValueError, match=r'boxes \(B, K, 7\)'):
        points_in_batch_boxes(points, batch_idx, boxes[0])
    with pytest.raises(ValueError, match='int64'):
        points_in_boxes(points.long(), boxes[0])
