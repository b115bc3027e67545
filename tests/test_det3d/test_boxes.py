"""Laws of the box geometry, against float64 polygons (shapely) and hand-made numbers."""

import math

import pytest
import torch
from shapely.geometry import Polygon

from mmdistill.det3d import boxes as geometry

DTYPES = [torch.float32, torch.float64]


def draw(num, seed=0, offset=0.0, spread=6.0, dtype=torch.float64):
    """Random boxes that overlap a lot, ``offset`` metres from the origin."""
    r = torch.rand(num, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    low = torch.tensor([offset, -offset, -1, 0.3, 0.2, 0.3, -2 * math.pi], dtype=torch.float64)
    span = torch.tensor([spread, spread, 2, 5, 3, 2, 4 * math.pi], dtype=torch.float64)
    return (low + r * span).to(dtype)


def reference(a, b):
    """Areas (N, M) by shapely in float64, from corners computed with plain math."""

    def polygon(box):
        x, y, _, dx, dy, _, yaw = (float(v) for v in box)
        signs = ((1, 1), (-1, 1), (-1, -1), (1, -1))
        return Polygon(
            (
                x + math.cos(yaw) * sx * dx / 2 - math.sin(yaw) * sy * dy / 2,
                y + math.sin(yaw) * sx * dx / 2 + math.cos(yaw) * sy * dy / 2,
            )
            for sx, sy in signs
        )

    pa, pb = [polygon(box) for box in a], [polygon(box) for box in b]
    areas = [[p.intersection(q).area for q in pb] for p in pa]
    return torch.tensor(areas, dtype=torch.float64)


def reference_ious(a, b):
    """BEV and 3D IoU (N, M) from the reference areas."""
    a, b = a.double(), b.double()
    inter = reference(a, b)
    area_a, area_b = a[:, 3] * a[:, 4], b[:, 3] * b[:, 4]
    bev = inter / (area_a[:, None] + area_b[None] - inter)
    top = torch.minimum((a[:, 2] + a[:, 5])[:, None], (b[:, 2] + b[:, 5])[None])
    height = (top - torch.maximum(a[:, None, 2], b[None, :, 2])).clamp(min=0)
    volume = inter * height
    total = (area_a * a[:, 5])[:, None] + (area_b * b[:, 5])[None]
    return bev, volume / (total - volume)


def moved(boxes, along=0.0, across=0.0, turn=0.0):
    """Boxes moved in their own frame and turned about their centre."""
    out = boxes.clone()
    cos, sin = boxes[:, 6].cos(), boxes[:, 6].sin()
    out[:, 0] += along * cos - across * sin
    out[:, 1] += along * sin + across * cos
    out[:, 6] += turn
    return out


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('offset', [0.0, 70.0])
def test_ious_equal_polygon_clipping(dtype, offset):
    a, b = draw(60, 1, offset, dtype=dtype), draw(50, 2, offset, dtype=dtype)
    bev, volume = reference_ious(a, b)
    atol = 2e-6 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(geometry.bev_iou(a, b).double(), bev, atol=atol, rtol=0)
    torch.testing.assert_close(geometry.iou_3d(a, b).double(), volume, atol=atol, rtol=0)
    assert (bev > 0.05).sum() > 300  # the draw is not trivial


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('offset', [0.0, 70.0])
def test_degenerate_pairs_have_their_textbook_iou(dtype, offset):
    """Identical, half turn, swapped sides, slid along the heading, inside each other."""
    a = draw(200, 3, offset, dtype=dtype)
    atol = 1e-5 if dtype == torch.float32 else 1e-12
    one = torch.ones(200, dtype=dtype)
    swapped = moved(a, turn=math.pi / 2)[:, [0, 1, 2, 4, 3, 5, 6]]
    for same in (a, moved(a, turn=math.pi), moved(a, turn=-2 * math.pi), swapped):
        for function in (geometry.bev_iou_pairs, geometry.iou_3d_pairs):
            torch.testing.assert_close(function(a, same), one, atol=atol, rtol=0)
    part = torch.linspace(-1.2, 1.2, 200, dtype=dtype)
    shared = (1 - part.abs()).clamp(min=0)
    slid = geometry.bev_iou_pairs(a, moved(a, along=part * a[:, 3], turn=math.pi))
    # Rounding the centres to float32 at 70 m moves them by up to 4e-6 m already.
    torch.testing.assert_close(slid, shared / (2 - shared), atol=max(atol, 2e-5), rtol=0)
    inner = a.clone()
    inner[:, 3:6] *= 0.5
    torch.testing.assert_close(geometry.bev_iou_pairs(a, inner), one / 4, atol=atol, rtol=0)
    torch.testing.assert_close(geometry.iou_3d_pairs(inner, a), one / 8, atol=atol, rtol=0)


def test_touching_boxes_and_boxes_of_no_size_share_nothing():
    a = torch.tensor([[0.0, 0, 0, 4, 2, 1, 0]])
    others = torch.tensor(
        [
            [4.0, 0, 0, 4, 2, 1, 0],  # shares an edge
            [4.0, 2, 0, 4, 2, 1, 0],  # shares a corner
            [0.0, 0, 0, 0, 2, 1, 0],
            [0.0, 0, 0, 4, 0, 1, 0.3],
            [0.0, 0, 0, 0, 0, 0, 0],
            [0.0, 0, 0, -4, 2, 1, 0],
        ]
    )
    for function in (geometry.bev_iou, geometry.iou_3d, geometry.bev_overlap_area):
        assert function(a, others).eq(0).all()
        assert function(others[2:], others[2:]).eq(0).all()
    assert not geometry.bev_collides(a, others).any()
    above = torch.tensor([[0.0, 0, 1, 4, 2, 1, 0]])
    assert geometry.iou_3d(a, above).item() == 0
    assert geometry.bev_iou(a, above).item() == 1


def test_disjoint_means_exactly_zero_and_collides_agrees_with_area():
    a, b = draw(120, 4, 30.0, 12.0, torch.float32), draw(120, 5, 30.0, 12.0, torch.float32)
    area, collides = geometry.bev_overlap_area(a, b), geometry.bev_collides(a, b)
    assert torch.equal(area > 0, collides)
    apart = reference(a.double(), b.double()) == 0
    assert 0.3 < apart.float().mean() < 0.95
    assert area[apart].eq(0).all()


def test_symmetry_and_invariance_under_rigid_motion():
    a, b = draw(40, 6), draw(40, 7)
    iou = geometry.iou_3d(a, b)
    torch.testing.assert_close(geometry.iou_3d(b, a), iou.T, atol=1e-12, rtol=0)
    angle, shift = 0.7, torch.tensor([11.0, -5.0], dtype=torch.float64)

    def motion(boxes):
        out = boxes.clone()
        cos, sin = math.cos(angle), math.sin(angle)
        turn = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)
        out[:, :2] = boxes[:, :2] @ turn.T + shift
        out[:, 6] += angle
        return out

    torch.testing.assert_close(geometry.iou_3d(motion(a), motion(b)), iou, atol=1e-12, rtol=0)


def test_batches_broadcast_and_blocks_do_not_matter(monkeypatch):
    a, b = draw(24, 8).view(2, 3, 4, 7), draw(30, 9).view(2, 3, 5, 7)
    iou = geometry.bev_iou(a, b)
    assert iou.shape == (2, 3, 4, 5)
    torch.testing.assert_close(iou[1, 2], geometry.bev_iou(a[1, 2], b[1, 2]))
    torch.testing.assert_close(
        geometry.bev_iou(a, b[:1, :1])[1, 1], geometry.bev_iou(a[1, 1], b[0, 0])
    )
    monkeypatch.setattr(geometry, '_PAIRS_PER_BLOCK', 7)
    assert torch.equal(geometry.bev_iou(a, b), iou)


@pytest.mark.parametrize('n, m', [(0, 3), (3, 0), (0, 0)])
def test_no_boxes_give_empty_matrices(n, m):
    a, b = draw(n), draw(m)
    for function in (geometry.bev_iou, geometry.iou_3d, geometry.bev_collides):
        assert function(a, b).shape == (n, m)


def test_half_precision_is_computed_in_float32_and_bad_numbers_give_zero():
    a = draw(10, 10, dtype=torch.float16)
    assert geometry.bev_iou(a, a).dtype == torch.float32
    torch.testing.assert_close(geometry.bev_iou_pairs(a, a), torch.ones(10), atol=1e-5, rtol=0)
    bad = draw(3, 11)
    bad[0, 3], bad[1, 0], bad[2, 6] = math.inf, math.nan, math.nan
    iou = geometry.iou_3d(bad, draw(5, 12))
    assert iou.eq(0).all()


def test_dense_path_of_other_devices_equals_the_cpu_path():
    a, b = draw(30, 13), draw(30, 14)
    relative = geometry._relative(a[:, None], b[None])
    dense = torch.where(
        geometry._overlapping(*relative), geometry._clipped_area(*relative), torch.zeros(30, 30)
    )
    torch.testing.assert_close(dense, geometry.bev_overlap_area(a, b), atol=0, rtol=0)


def test_corners_of_a_turned_box():
    box = torch.tensor([1.0, 2.0, 0.0, 4.0, 2.0, 1.0, math.pi / 2])
    expected = torch.tensor([[0.0, 4], [0, 0], [2, 0], [2, 4]])
    torch.testing.assert_close(geometry.corners_bev(box), expected, atol=1e-6, rtol=0)


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match=r'b must be floating point boxes .* \(2, 5\)'):
        geometry.bev_iou(draw(2), draw(2)[:, :5])
    with pytest.raises(ValueError, match='int64'):
        geometry.bev_iou(draw(2).long(), draw(2))
    with pytest.raises(ValueError, match=r'\(\.\.\., N, 7\)'):
        geometry.bev_iou(draw(1)[0], draw(2))
