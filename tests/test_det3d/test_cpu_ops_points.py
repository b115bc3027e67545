"""Sampling, ball queries, grouping, interpolation, scattering and box membership on the CPU."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from mmdistill.det3d.boxes import points_in_boxes
from mmdistill.det3d.cpu_ops.ball_query import ball_query
from mmdistill.det3d.cpu_ops.box_membership import points_in_boxes_all, points_in_boxes_part
from mmdistill.det3d.cpu_ops.grouping import gather_points, grouping_operation
from mmdistill.det3d.cpu_ops.interpolation import three_interpolate, three_nn
from mmdistill.det3d.cpu_ops.sampling import (
    furthest_point_sample,
    furthest_point_sample_with_dist,
)
from mmdistill.det3d.cpu_ops.scatter import dynamic_scatter


def _cloud(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, 3, generator=torch.Generator().manual_seed(seed))


def _counts(*numbers):
    return torch.tensor(numbers, dtype=torch.int32)


def _distances(a, b):
    return (a.double()[:, None] - b.double()).norm(dim=-1)


def _furthest(points, number):
    """Indices by the definition, in float64."""
    between, picked = _distances(points, points), [0]
    while len(picked) < number:
        picked.append(int(between[picked].min(0).values.argmax()))
    return picked


def test_furthest_points_are_those_of_the_definition():
    points = _cloud(2, 300)
    picked = furthest_point_sample(points, 40)
    assert picked.dtype == torch.int32
    assert picked.tolist() == [_furthest(each, 40) for each in points]
    matrix = torch.stack([_distances(each, each) for each in points])
    assert furthest_point_sample_with_dist(matrix, 40).tolist() == picked.tolist()


def test_furthest_points_by_hand():
    line = torch.tensor([[[2.0, 0, 0], [0, 0, 0], [9, 0, 0], [4, 0, 0], [9, 0, 0]]])
    # 9 is 7 away and comes first at index 2; then 4, 2 away from 2, ties with 0, which is earlier.
    assert furthest_point_sample(line, 4).tolist() == [[0, 2, 1, 3]]
    assert furthest_point_sample(line, 7).tolist() == [[0, 2, 1, 3, 0, 0, 0]]
    assert furthest_point_sample(line.double(), 4).tolist() == [[0, 2, 1, 3]]
    assert furthest_point_sample(line[:, :1], 3).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize('sample', [furthest_point_sample, furthest_point_sample_with_dist])
def test_nothing_can_be_sampled_of_an_empty_cloud(sample):
    with pytest.raises(ValueError, match='cannot sample 3 points of an empty cloud'):
        sample(torch.zeros(1, 0, 3), 3)


def _in_balls(low, high, number, points, centers, empty):
    """Rows of indices by the definition, in float64."""
    rows = []
    for distance in _distances(centers, points):
        inside = (distance < high) & ((distance >= low) | (distance == 0))
        hits = inside.nonzero().squeeze(1).tolist()[:number]
        rows.append(hits + hits[:1] * (number - len(hits)) if hits else empty)
    return rows


@pytest.mark.parametrize(('low', 'high'), [(0.0, 0.3), (0.0, 1.0), (0.5, 1.0), (0.0, 40.0)])
def test_balls_hold_the_first_points_near_their_centres(low, high):
    points, centers = _cloud(2, 500), _cloud(2, 60, seed=1, scale=1.5)
    centers[:, :5] = points[:, 7:12]
    found = ball_query(low, high, 8, points, centers)
    assert found.dtype == torch.int32
    for b in range(2):
        expected = _in_balls(low, high, 8, points[b], centers[b], [0] * 8)
        assert found[b].tolist() == expected


def test_stacked_balls_look_at_their_own_sample():
    points, centers = _cloud(700), _cloud(90, seed=1, scale=1.5)
    per_sample, per_center = _counts(300, 0, 400), _counts(40, 20, 30)
    found = ball_query(0, 0.4, 6, points, centers, per_sample, per_center)
    expected = _in_balls(0, 0.4, 6, points[:300], centers[:40], [-1, 0, 0, 0, 0, 0])
    expected += [[-1, 0, 0, 0, 0, 0]] * 20
    expected += _in_balls(0, 0.4, 6, points[300:], centers[60:], [-1, 0, 0, 0, 0, 0])
    assert found.tolist() == expected
    assert 0 < sum(row[0] == -1 for row in expected) < 80


def test_balls_are_open_and_shells_closed_inside():
    points = torch.tensor([[[1.0, 0, 0], [0.5, 0, 0], [0, 0, 0], [2, 0, 0]]])
    center = torch.zeros(1, 1, 3)
    assert ball_query(0, 1.0, 2, points, center).tolist() == [[[1, 2]]]
    assert ball_query(0.5, 2.0, 3, points, center).tolist() == [[[0, 1, 2]]]


def test_points_that_are_no_numbers_are_in_no_ball():
    points, centers = _cloud(1, 50), _cloud(1, 4, seed=1)
    expected = ball_query(0, 1.0, 50, points, centers)
    odd = torch.tensor([[[torch.nan, 0, 0], [0, torch.inf, 0], [0, 0, -torch.inf]]])
    assert torch.equal(ball_query(0, 1.0, 50, torch.cat((points, odd), 1), centers), expected)
    assert (ball_query(0, 1.0, 2, points, odd) == 0).all()
    far = torch.tensor([[[1e30, 0, 0], [0, -1e30, 0]]])
    assert (ball_query(0, 1.0, 2, points, far) == 0).all()


def test_balls_refuse_radii_out_of_order():
    with pytest.raises(ValueError, match='min_radius must be below max_radius, got 2 and 1'):
        ball_query(2, 1, 4, _cloud(1, 5), _cloud(1, 5))


def test_groups_are_gathered_features():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 5, 20, generator=generator)
    indices = torch.randint(20, (2, 7, 3), generator=generator, dtype=torch.int32)
    grouped = grouping_operation(features, indices)
    picked = gather_points(features, indices[:, :, 0].contiguous())
    for b, m, s in np.ndindex(2, 7, 3):
        assert torch.equal(grouped[b, :, m, s], features[b, :, indices[b, m, s]])
        assert torch.equal(picked[b, :, m], features[b, :, indices[b, m, 0]])


def test_stacked_groups_count_from_their_own_sample():
    features = torch.arange(10.0).view(5, 2)
    indices = torch.tensor([[0, 1], [1, 1], [2, 0]], dtype=torch.int32)
    grouped = grouping_operation(features, indices, _counts(2, 3), _counts(2, 1))
    rows = torch.tensor([[0, 1], [1, 1], [4, 2]])
    assert torch.equal(grouped, features[rows].transpose(1, 2))
    empty = grouping_operation(features, indices, _counts(5, 0), _counts(2, 1))
    assert empty.shape == (3, 2, 2)
    nothing = grouping_operation(features[:0], indices, _counts(0, 0), _counts(2, 1))
    assert torch.equal(nothing, torch.zeros(3, 2, 2))


def test_gradients_of_gathering_are_exact():
    generator = torch.Generator().manual_seed(0)
    padded = torch.randn(2, 3, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    stacked = torch.randn(9, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    indices = torch.tensor([[[0, 0, 5], [1, 2, 0]]] * 2, dtype=torch.int32)
    weight = torch.rand(2, 2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: grouping_operation(x, indices), padded)
    assert gradcheck(lambda x: gather_points(x, indices[:, 0].contiguous()), padded)
    assert gradcheck(lambda x: three_interpolate(x, indices, weight), padded)
    counts = _counts(6, 3), _counts(1, 1)
    rows = torch.tensor([[0, 0, 5], [2, 2, 1]], dtype=torch.int32)
    assert gradcheck(lambda x: grouping_operation(x, rows, *counts), stacked)
    three_interpolate(padded, indices, weight).sum().backward()
    assert weight.grad is None


def test_three_neighbours_are_the_nearest():
    target, source = _cloud(2, 50), _cloud(2, 80, seed=1)
    distance, index = three_nn(target, source)
    assert index.dtype == torch.int32
    for b in range(2):
        expected, order = _distances(target[b], source[b]).sort(1)
        assert torch.equal(index[b].long(), order[:, :3])
        torch.testing.assert_close(distance[b].double(), expected[:, :3], rtol=1e-5, atol=1e-6)


def test_three_neighbours_by_hand():
    source = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])
    distance, index = three_nn(torch.zeros(1, 1, 3), source)
    assert distance.tolist() == [[[1, 1, torch.inf]]] and index.tolist() == [[[0, 1, 0]]]
    around = torch.cat((source, -source, source / 2), 1)
    assert three_nn(torch.zeros(1, 1, 3), around)[1].tolist() == [[[4, 5, 0]]]
    assert three_nn(torch.zeros(1, 1, 3), around[:, :4])[1].tolist() == [[[0, 1, 2]]]


def test_interpolation_weighs_three_features():
    features = torch.tensor([[[1.0, 10, 100, 7]]])
    indices = torch.tensor([[[0, 1, 2], [2, 2, 3]]], dtype=torch.int32)
    weight = torch.tensor([[[0.5, 0.25, 0.25], [1, 1, 0]]])
    assert three_interpolate(features, indices, weight).tolist() == [[[28, 200]]]


def _scattered(features, coors, reduce):
    """Voxels and their features by the definition."""
    voxels = sorted({tuple(row) for row in coors.tolist() if min(row) >= 0})
    members = [features[(coors == torch.tensor(voxel)).all(1)] for voxel in voxels]
    return torch.tensor(voxels), torch.stack([reduce(each) for each in members])


@pytest.mark.parametrize(
    ('kind', 'reduce'),
    [
        ('max', lambda x: x.max(0).values),
        ('mean', lambda x: x.mean(0)),
        ('sum', lambda x: x.sum(0)),
    ],
)
def test_features_are_reduced_to_their_voxels(kind, reduce):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    coors = torch.randint(-1, 3, (60, 3), generator=generator, dtype=torch.int32)
    reduced, voxels, row = dynamic_scatter(features, coors, kind, True)
    expected_voxels, expected = _scattered(features, coors, reduce)
    assert voxels.tolist() == expected_voxels.tolist() and voxels.dtype == torch.int32
    torch.testing.assert_close(reduced, expected)
    kept = row >= 0
    assert torch.equal(kept, (coors >= 0).all(1))
    assert torch.equal(voxels[row[kept].long()], coors[kept])
    assert gradcheck(lambda x: dynamic_scatter(x, coors, kind)[0], features)


def test_the_first_of_equal_maxima_gets_the_gradient():
    features = torch.tensor([[1.0], [2], [2]], requires_grad=True)
    dynamic_scatter(features, torch.zeros(3, 3, dtype=torch.int32))[0].sum().backward()
    assert features.grad.tolist() == [[0], [1], [0]]


def test_points_out_of_range_make_no_voxel():
    outside = torch.full((4, 3), -1, dtype=torch.int32)
    for coors in (outside, outside[:0]):
        reduced, voxels, row = dynamic_scatter(torch.ones(len(coors), 2), coors, 'max', True)
        assert reduced.shape == (0, 2) and voxels.shape == (0, 3)
        assert row.tolist() == [-1] * len(coors)
    with pytest.raises(ValueError, match="'max', 'mean' or 'sum', got 'min'"):
        dynamic_scatter(torch.ones(4, 2), outside, 'min')


def _boxes(seed=2):
    generator = torch.Generator().manual_seed(seed)
    place = torch.rand(2, 6, 3, generator=generator) * 2 - 1
    size = torch.rand(2, 6, 3, generator=generator) + 0.3
    return torch.cat((place, size, 6 * torch.rand(2, 6, 1, generator=generator)), 2)


def test_box_membership_is_that_of_our_boxes():
    points, boxes = _cloud(2, 400), _boxes()
    inside = points_in_boxes_all(points, boxes)
    first = points_in_boxes_part(points, boxes)
    assert inside.dtype == first.dtype == torch.int32
    for b in range(2):
        expected = points_in_boxes(points[b].double(), boxes[b].double())
        assert torch.equal(inside[b].bool(), expected)
        numbers = [row.nonzero()[0].item() if row.any() else -1 for row in expected]
        assert first[b].tolist() == numbers
    assert (first >= 0).any() and (first < 0).any() and (inside.sum(2) > 1).any()
    assert (points_in_boxes_part(points, boxes[:, :0]) == -1).all()


def test_side_faces_are_outside_and_caps_inside():
    box = torch.tensor([[[0.0, 0, 0, 2, 2, 2, 0]]])
    points = torch.tensor([[[1.0, 0, 1], [0, 1, 1], [0, 0, 0], [0, 0, 2], [0, 0, 2.01]]])
    assert points_in_boxes_part(points, box).tolist() == [[-1, -1, 0, 0, -1]]
