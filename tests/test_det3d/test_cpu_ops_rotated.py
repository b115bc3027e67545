"""Overlaps and suppression of rotated boxes on the CPU: exact, also where edges are collinear."""

import math

import numpy as np
import pytest
import torch

from mmdistill.det3d.cpu_ops import remove_cpu_ops
from mmdistill.det3d.cpu_ops.rotated_iou import box_iou_rotated, boxes_iou3d, boxes_overlap_bev
from mmdistill.det3d.cpu_ops.rotated_nms import nms3d, nms3d_normal, nms_rotated


def _rectangles(number, seed=0, extent=6.0):
    generator = torch.Generator().manual_seed(seed)
    columns = torch.rand(number, 5, generator=generator, dtype=torch.float64)
    return columns * torch.tensor([extent, extent, 3, 3, 7.0]) + torch.tensor([0, 0, 0.5, 0.5, 0])


def _boxes(rectangles, z=0.0, height=2.0):
    column = torch.full_like(rectangles[:, :1], z)
    tall = torch.full_like(column, height)
    return torch.cat((rectangles[:, :2], column, rectangles[:, 2:4], tall, rectangles[:, 4:]), 1)


def _corners(x, y, w, h, angle):
    c, s = math.cos(angle), math.sin(angle)
    return [(x + c * u - s * v, y + s * u + c * v) for u, v in _signs(w / 2, h / 2)]


def _signs(u, v):
    return (u, v), (-u, v), (-u, -v), (u, -v)


def _clipped_area(a, b):
    """Area of the intersection by clipping one polygon with the edges of the other."""
    polygon, clip = _corners(*a), _corners(*b)
    for k in range(4):
        (px, py), (qx, qy) = clip[k], clip[(k + 1) % 4]
        side = [(qx - px) * (y - py) - (qy - py) * (x - px) for x, y in polygon]
        left = []
        for i, one in enumerate(polygon):
            j = (i + 1) % len(polygon)
            if side[i] >= 0:
                left.append(one)
            if side[i] * side[j] < 0:
                t = side[i] / (side[i] - side[j])
                left.append(tuple(np.add(one, t * np.subtract(polygon[j], one))))
        polygon = left
        if not polygon:
            return 0.0
    x, y = np.transpose(polygon)
    return 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))


def _iou_by_clipping(a, b):
    inter = np.array([[_clipped_area(p, q) for q in b.tolist()] for p in a.tolist()])
    area_a, area_b = ((each[:, 2] * each[:, 3]).numpy() for each in (a, b))
    return torch.from_numpy(inter / (area_a[:, None] + area_b - inter))


def test_overlaps_equal_clipping():
    a, b = _rectangles(30), _rectangles(20, seed=1)
    expected = _iou_by_clipping(a, b)
    torch.testing.assert_close(box_iou_rotated(a, b), expected, rtol=0, atol=1e-9)
    single = box_iou_rotated(a.float(), b.float())
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-5)
    aligned = box_iou_rotated(a[:20], b, aligned=True)
    torch.testing.assert_close(aligned, expected.diagonal(), rtol=0, atol=1e-9)
    mirrored = [each * each.new_tensor([1, 1, 1, 1, -1]) for each in (a, b)]
    turned = box_iou_rotated(*mirrored, clockwise=False)
    torch.testing.assert_close(turned, expected, rtol=0, atol=1e-9)
    inside = box_iou_rotated(a, b, mode='iof') * (a[:, 2] * a[:, 3])[:, None]
    torch.testing.assert_close(boxes_overlap_bev(_boxes(a), _boxes(b)), inside)
    with pytest.raises(ValueError, match="'iou' or 'iof', got 'giou'"):
        box_iou_rotated(a, b, mode='giou')


def test_overlaps_are_those_of_mmcv_where_mmcv_is_right():
    remove_cpu_ops()
    from mmcv.ops import box_iou_rotated as theirs

    a, b = _rectangles(40).float(), _rectangles(40, seed=1).float()
    for options in (dict(), dict(mode='iof'), dict(clockwise=False), dict(aligned=True)):
        expected = theirs(a, b, **options)
        torch.testing.assert_close(box_iou_rotated(a, b, **options), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize('scale', [1e-3, 1.0, 50.0])
@pytest.mark.parametrize('yaw', [0.0, 0.3, math.pi / 2, 2.2])
def test_collinear_edges(yaw, scale):
    """A box, itself, its half turn, and itself slid along its heading or its side."""
    size = torch.tensor([3.9, 1.6]) * scale
    ahead = torch.tensor([math.cos(yaw), math.sin(yaw)])
    aside = torch.tensor([-math.sin(yaw), math.cos(yaw)])
    cases = [((0, 0), 0, 1.0), ((0, 0), math.pi, 1.0), ((0, 0), 2 * math.pi, 1.0)]
    for share in (0.1, 0.5, 0.9, 1.0, 1.5):
        iou = max(0, 1 - share) / (1 + min(share, 1))
        cases += [((share, 0), 0, iou), ((0, share), 0, iou), ((-share, 0), math.pi, iou)]
    middle = torch.tensor([20.0, -11.0])
    base = torch.cat((middle, size, torch.tensor([yaw])))[None]
    for (along, across), turn, expected in cases:
        place = middle + along * size[0] * ahead + across * size[1] * aside
        other = torch.cat((place, size, torch.tensor([yaw + turn])))[None]
        tolerance = 2e-6 + 1e-5 / scale
        assert box_iou_rotated(base, other).item() == pytest.approx(expected, abs=tolerance)
    double = box_iou_rotated(base.double(), base.double()).item()
    assert double == pytest.approx(1, abs=1e-12)


def test_boxes_without_area_overlap_nothing():
    flat = torch.tensor([[0.0, 0, 0, 2, 0.4], [0, 0, 2, 2, 0.4]])
    assert box_iou_rotated(flat, flat).tolist() == [[0, 0], [0, pytest.approx(1)]]
    assert box_iou_rotated(flat[:0], flat).shape == (0, 2)


def test_volumes_count_from_the_centre():
    a = _boxes(_rectangles(10), z=0.0, height=2.0)
    b = _boxes(_rectangles(12, seed=1), z=0.5, height=1.0)
    area = boxes_overlap_bev(a, b)
    volume = area * 1.0  # [0, 1] lies in [-1, 1]
    whole = (2 * a[:, 3] * a[:, 4])[:, None] + b[:, 3] * b[:, 4] - volume
    torch.testing.assert_close(boxes_iou3d(a, b), volume / whole)
    above = _boxes(_rectangles(12, seed=1), z=1.6, height=1.0)
    assert (boxes_iou3d(a, above) == 0).all()


def _kept(iou, scores, threshold):
    """Greedy suppression by the definition."""
    kept, iou = [], iou.numpy()
    for one in scores.argsort(descending=True, stable=True).tolist():
        if (iou[one, kept] <= threshold).all():
            kept.append(one)
    return kept


@pytest.mark.parametrize('threshold', [0.0, 0.1, 0.5, 0.8])
def test_suppression_is_greedy(threshold):
    """More boxes than one block; the margin keeps all decisions clear of rounding."""
    boxes = _rectangles(700, extent=12.0)
    scores = torch.rand(700, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    iou = box_iou_rotated(boxes, boxes)
    expected = _kept(iou, scores, threshold)
    dets, keep = nms_rotated(boxes, scores, threshold)
    assert keep.tolist() == expected
    assert torch.equal(dets, torch.cat((boxes[keep], scores[keep, None]), 1))
    assert nms3d(_boxes(boxes), scores, threshold).tolist() == expected
    straight = boxes * boxes.new_tensor([1, 1, 1, 1, 0])
    expected = _kept(box_iou_rotated(straight, straight), scores, threshold)
    assert nms3d_normal(_boxes(boxes), scores, threshold).tolist() == expected


def test_suppression_is_that_of_mmcv_where_mmcv_is_right():
    remove_cpu_ops()
    from mmcv.ops import nms_rotated as theirs

    boxes = _rectangles(300).float()
    scores = torch.rand(300, generator=torch.Generator().manual_seed(3))
    for threshold in (0.1, 0.7):
        ours = nms_rotated(boxes, scores, threshold)
        for one, two in zip(ours, theirs(boxes, scores, threshold), strict=True):
            assert torch.equal(one, two)


def test_ties_classes_and_thresholds():
    boxes = torch.tensor([[0.0, 0, 2, 2, 0]]).repeat(4, 1)
    scores = torch.tensor([0.5, 0.9, 0.9, 0.1])
    assert nms_rotated(boxes, scores, 0.5)[1].tolist() == [1]
    assert nms_rotated(boxes, scores, 1.0)[1].tolist() == [1, 2, 0, 3]
    labels = torch.tensor([0, 1, 1, 0])
    assert nms_rotated(boxes, scores, 0.5, labels)[1].tolist() == [1, 0]
    dets, keep = nms_rotated(boxes[:0], scores[:0], 0.5)
    assert dets.shape == (0, 5) and keep is None
    assert nms3d(torch.zeros(0, 7), scores[:0], 0.5).tolist() == []
