"""Views are exact similarities: invertible, equal to the host's transforms, batched."""

import itertools
import math

import pytest
import torch
from det3d_scenes import angle_gap

from mmdistill.core.errors import UserError
from mmdistill.det3d.views import Similarity, ViewRange, wrap_angle


def random_boxes(batch, count, seed=0, velocity=False):
    """(B, N, 7 or 9) boxes anywhere in a KITTI range."""
    generator = torch.Generator().manual_seed(seed)
    unit = torch.rand(batch, count, 9, generator=generator)
    low = torch.tensor([0, -40, -3, 0.3, 0.3, 0.5, -math.pi, -5, -5])
    high = torch.tensor([70, 40, 1, 5, 3, 3, math.pi, 5, 5])
    boxes = low + unit * (high - low)
    return boxes if velocity else boxes[..., :7]


def views(count, seed=0):
    """Views over the whole allowed range, every second one flipped."""
    generator = torch.Generator().manual_seed(seed)
    unit = torch.rand(count, 2, generator=generator)
    return Similarity(
        flip=torch.arange(count) % 2 == 1,
        angle=(unit[:, 0] * 2 - 1) * math.pi,
        scale=0.8 + unit[:, 1] * 0.45,
    )


@pytest.mark.parametrize('velocity', [False, True])
def test_boxes_return_to_where_they_were(velocity):
    boxes, view = random_boxes(16, 30, velocity=velocity), views(16)
    back = view.inverse().boxes(view.boxes(boxes))
    gap = (back - boxes).abs()
    gap[..., 6] = angle_gap(back[..., 6], boxes[..., 6])
    assert back.shape == boxes.shape
    # 1e-5 of the largest coordinate, 70 m
    assert gap[..., :2].max() < 7e-5 and gap[..., 2:].max() < 1e-5


def test_round_trip_in_float64_is_exact_to_rounding():
    boxes, view = random_boxes(16, 30).double(), views(16)
    view = Similarity(view.flip, view.angle.double(), view.scale.double())
    back = view.inverse().boxes(view.boxes(boxes))
    assert (back - boxes)[..., :6].abs().max() < 1e-12
    assert angle_gap(back[..., 6], boxes[..., 6]).max() < 1e-12


@pytest.mark.parametrize(('flip', 'turn', 'grow'), list(itertools.product([False, True], repeat=3)))
def test_each_step_alone_and_together_can_be_undone(flip, turn, grow):
    """All 8 combinations of flip, rotation, scaling; box order F, R, S written by hand."""
    angle, scale = 0.6 * turn, 1 + 0.08 * grow
    view = Similarity(torch.tensor([flip]), torch.tensor([angle]), torch.tensor([scale]))
    x, y, yaw = 10.0, 4.0, 0.25
    mirror = -1 if flip else 1
    expected = [
        scale * (math.cos(angle) * x - math.sin(angle) * mirror * y),
        scale * (math.sin(angle) * x + math.cos(angle) * mirror * y),
        scale * -1.5,
        *(scale * size for size in (3.9, 1.6, 1.5)),
        mirror * yaw + angle,
    ]
    box = torch.tensor([[[x, y, -1.5, 3.9, 1.6, 1.5, yaw]]])
    moved = view.boxes(box)
    torch.testing.assert_close(moved[0, 0], torch.tensor(expected))
    torch.testing.assert_close(view.inverse().boxes(moved), box)


def test_equals_the_chain_of_host_transforms():
    """mmdet3d: flip('horizontal'), rotate(angle), scale(s), on boxes and on points."""
    from mmdet3d.structures import LiDARInstance3DBoxes, LiDARPoints

    boxes, view = random_boxes(6, 20), views(6)
    moved = view.boxes(boxes)
    for row in range(6):
        reference = LiDARInstance3DBoxes(boxes[row].clone())
        points = LiDARPoints(torch.cat([boxes[row, :, :3], torch.rand(20, 1)], 1), points_dim=4)
        cloud = points.tensor.clone()
        if view.flip[row]:
            reference.flip('horizontal')
            points.flip('horizontal')
        reference.rotate(view.angle[row])
        points.rotate(view.angle[row])
        reference.scale(float(view.scale[row]))
        points.scale(float(view.scale[row]))
        torch.testing.assert_close(moved[row, :, :6], reference.tensor[:, :6], atol=3e-5, rtol=0)
        assert angle_gap(moved[row, :, 6], reference.tensor[:, 6]).max() < 1e-5
        mapped = view.points(cloud, torch.full((20,), row))
        torch.testing.assert_close(mapped, points.tensor, atol=3e-5, rtol=0)


def test_points_move_with_their_boxes():
    """A point inside a box stays inside its image, with and without boxes in the scene."""
    from mmdistill.det3d.boxes import points_in_boxes

    boxes, view = random_boxes(4, 10), views(4)
    inner = boxes[..., :3] + torch.tensor([0.0, 0, 1.0]) * boxes[..., 5:6] / 2
    for row in range(4):
        sample = torch.full((10,), row)
        moved = view.points(inner[row], sample)
        assert points_in_boxes(moved, view.boxes(boxes)[row]).diagonal().all()
        alone = view.points(inner[row][:1], sample[:1])
        torch.testing.assert_close(alone, moved[:1], atol=0, rtol=1e-6)
    assert view.boxes(boxes[:, :0]).shape == (4, 0, 7)


def test_points_keep_further_features_and_return():
    view = views(3)
    points = torch.rand(60, 5) * 50
    sample = torch.arange(3).repeat_interleave(20)
    moved = view.points(points, sample)
    assert torch.equal(moved[:, 3:], points[:, 3:])
    back = view.inverse().points(moved, sample)
    torch.testing.assert_close(back, points, atol=3e-5, rtol=0)


def test_inverse_of_inverse_and_identity():
    view = views(8)
    twice = view.inverse().inverse()
    torch.testing.assert_close(twice.matrices(), view.matrices())
    product = view.inverse().matrices() @ view.matrices()
    torch.testing.assert_close(product, torch.eye(2).expand(8, 2, 2), atol=1e-6, rtol=0)
    boxes = random_boxes(2, 5)
    torch.testing.assert_close(Similarity.identity(2).boxes(boxes), boxes)


def test_iou_is_invariant():
    from mmdistill.det3d.boxes import bev_iou

    boxes = random_boxes(1, 200, seed=3)
    boxes[..., :2] *= 0.1
    boxes, view = boxes.expand(4, -1, -1), views(4)
    before, after = bev_iou(boxes, boxes), bev_iou(view.boxes(boxes), view.boxes(boxes))
    assert (before > 0).float().mean() > 0.01
    assert (before - after).abs().max() < 1e-4


@pytest.mark.parametrize('both', [False, True])
def test_vertical_flips_are_the_hosts(both):
    """mmdet3d: flip('vertical') after flip('horizontal'), then the turn."""
    from mmdet3d.structures import LiDARInstance3DBoxes

    spread = ViewRange(flip_prob=float(both), vertical_flip_prob=1.0, rotation=(0.3, 0.3))
    boxes = random_boxes(4, 20, velocity=True)
    view = spread.draw(torch.rand(4, 3, generator=torch.Generator().manual_seed(0)))
    moved = view.boxes(boxes)
    for row in range(4):
        reference = LiDARInstance3DBoxes(boxes[row].clone(), box_dim=9)
        for direction in ['horizontal'] * both + ['vertical']:
            reference.flip(direction)
        reference.rotate(torch.tensor(0.3))
        torch.testing.assert_close(moved[row, :, :6], reference.tensor[:, :6], atol=3e-5, rtol=0)
        assert angle_gap(moved[row, :, 6], reference.tensor[:, 6]).max() < 1e-5
        torch.testing.assert_close(moved[row, :, 7:], reference.tensor[:, 7:], atol=3e-5, rtol=0)


@pytest.mark.parametrize(('flip', 'vertical'), [(0.25, 0.5), (0.5, 0.5), (0.0, 0.3), (1.0, 0.7)])
def test_flips_are_independent(flip, vertical):
    """Four kinds in the product of the shares; a flip of both axes is half a turn."""
    spread = ViewRange(flip_prob=flip, vertical_flip_prob=vertical)
    drawn = spread.draw(torch.rand(40000, 3, generator=torch.Generator().manual_seed(1)))
    upright = drawn.matrices() @ torch.tensor([1.0, 0.0])
    along_x, along_y = upright[:, 0] < 0, (drawn.matrices() @ torch.tensor([0.0, 1.0]))[:, 1] < 0
    for x in (False, True):
        for y in (False, True):
            share = (vertical if x else 1 - vertical) * (flip if y else 1 - flip)
            seen = ((along_x == x) & (along_y == y)).float().mean()
            assert float(seen) == pytest.approx(share, abs=0.01)


def test_no_vertical_flip_draws_what_it_drew_before():
    numbers = torch.rand(500, 3, generator=torch.Generator().manual_seed(2))
    drawn = ViewRange(flip_prob=0.5, rotation=(-0.7, 0.7)).draw(numbers)
    assert torch.equal(drawn.flip, numbers[:, 0] < 0.5)
    assert torch.equal(drawn.angle, -0.7 + 1.4 * numbers[:, 1])


def test_draw_covers_the_range_and_depends_on_its_numbers_only():
    spread = ViewRange(flip_prob=0.25, rotation=(-0.785, 0.785), scale=(0.95, 1.05))
    drawn = spread.draw(torch.rand(20000, 3, generator=torch.Generator().manual_seed(0)))
    assert abs(float(drawn.flip.float().mean()) - 0.25) < 0.02
    assert float(drawn.angle.min()) >= -0.785 and float(drawn.angle.max()) <= 0.785
    assert float(drawn.angle.std()) == pytest.approx(1.57 / math.sqrt(12), rel=0.02)
    assert float(drawn.scale.min()) >= 0.95 and float(drawn.scale.max()) <= 1.05
    ends = spread.draw(torch.tensor([[0.0, 0, 0], [0.999999, 1, 1]]))
    torch.testing.assert_close(ends.angle, torch.tensor([-0.785, 0.785]))
    torch.testing.assert_close(ends.scale, torch.tensor([0.95, 1.05]))
    assert ends.flip.tolist() == [True, False]


@pytest.mark.parametrize('always', [0.0, 1.0])
def test_certain_flips(always):
    drawn = ViewRange(flip_prob=always).draw(torch.rand(1000, 3))
    assert bool((drawn.flip == bool(always)).all())
    assert bool((drawn.angle == 0).all()) and bool((drawn.scale == 1).all())


@pytest.mark.parametrize(
    'wrong',
    [
        dict(flip_prob=1.5),
        dict(vertical_flip_prob=-0.1),
        dict(scale=(1.1, 0.9)),
        dict(scale=(0, 1)),
        dict(rotate=(0, 1)),
        dict(rotation=(0.8, -0.8)),
        dict(rotation=0.8),
        dict(rotation=(0.8,)),
    ],
)
def test_wrong_ranges_are_refused(wrong):
    with pytest.raises((UserError, TypeError)):
        ViewRange(**wrong)


def test_a_view_is_one_similarity():
    """A view holds one flip, one angle, one scale: a second rotation cannot be recorded."""
    assert set(Similarity.__dataclass_fields__) == {'flip', 'angle', 'scale'}
    first, second = views(4), views(4, seed=1)
    boxes = random_boxes(4, 9)
    both = second.boxes(first.boxes(boxes))
    back = first.inverse().boxes(second.inverse().boxes(both))
    assert (back - boxes)[..., :6].abs().max() < 2e-4


def test_wrap_angle():
    angles = torch.tensor([0.0, math.pi, -math.pi, 3 * math.pi / 2, 7.0, -7.0])
    wrapped = wrap_angle(angles)
    assert bool(((wrapped >= -math.pi) & (wrapped < math.pi)).all())
    assert angle_gap(wrapped, angles).max() < 1e-5


def test_autocast_does_not_round_the_maps():
    view = ViewRange(flip_prob=0.5, rotation=(-0.8, 0.8), scale=(0.9, 1.1)).draw(torch.rand(3, 3))
    points, sample = 70 * torch.rand(50, 4), torch.arange(50) % 3
    boxes = 70 * torch.rand(3, 5, 9)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        rounded = view.points(points, sample), view.boxes(boxes)
    assert torch.equal(rounded[0], view.points(points, sample))
    assert torch.equal(rounded[1], view.boxes(boxes))
