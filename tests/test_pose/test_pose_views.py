"""Views are exact affine maps: invertible, those of mmpose's crops, drawn from numbers alone."""

import math

import numpy as np
import pytest
import torch
from mmpose.datasets.transforms import RandomFlip, TopdownAffine
from pose_cases import COCO_FLIP, CODECS, hard_views, random_joints, uniform

from mmdistill.core.errors import UserError
from mmdistill.pose.heatmaps import HeatmapGrid
from mmdistill.pose.views import Affine, ViewRange, check_flip_indices, normal

FLIP = check_flip_indices(COCO_FLIP)
MSRA = HeatmapGrid.from_codec(CODECS['msra']())
UDP = HeatmapGrid.from_codec(CODECS['udp']())


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('grid', [MSRA, UDP], ids=['msra', 'udp'])
def test_a_view_and_its_inverse_leave_points_where_they_are(grid, dtype):
    view, points = hard_views(grid, 32, dtype=dtype), random_joints(32).to(dtype)
    limit = 1e-10 if dtype == torch.float64 else 1e-3
    for back in (view.inverse() @ view, view @ view.inverse()):
        assert (back.points(points) - points).abs().max() < limit
    assert (view.inverse().points(view.points(points)) - points).abs().max() < limit
    # joints: left and right change twice
    twice = view.inverse().joints(view.joints(points, FLIP), FLIP)
    assert (twice - points).abs().max() < limit


def test_composition_is_one_after_the_other():
    first, second = hard_views(MSRA, 16, seed=4), hard_views(MSRA, 16, seed=5)
    points = random_joints(16)
    torch.testing.assert_close(
        (second @ first).joints(points, FLIP), second.joints(first.joints(points, FLIP), FLIP)
    )
    both = first.mirrored ^ second.mirrored
    assert torch.equal((second @ first).mirrored, both) and both.any() and not both.all()


def test_identity_changes_nothing():
    points = random_joints(3)
    view = Affine.identity(3, dtype=torch.float64)
    assert torch.equal(view.points(points), points) and not view.mirrored.any()
    assert len(view) == 3


@pytest.mark.parametrize('grid', [MSRA, UDP], ids=['msra', 'udp'])
def test_on_the_heatmap_the_view_is_the_same_map(grid):
    view, points = hard_views(grid, 32), random_joints(32)
    there = view.on_heatmap(grid).points(grid.to_heatmap(points))
    assert (there - grid.to_heatmap(view.points(points))).abs().max() < 1e-10


@pytest.mark.parametrize('grid', [MSRA, UDP], ids=['msra', 'udp'])
def test_flips_are_involutions(grid):
    """Fact 6: one flip permutes the joints by flip_indices, two or none leave them."""
    flip = ViewRange(rotation_std=0, box_scale_std=0, flip_prob=1).draw(uniform(4, 6), grid)
    points = random_joints(4)
    once = flip.joints(points, FLIP)
    assert flip.mirrored.all() and not (flip @ flip).mirrored.any()
    assert torch.equal(once[:, :, 1], points[:, COCO_FLIP, 1])
    assert torch.equal(once[:, :, 0], 2 * grid.center[0] - points[:, COCO_FLIP, 0])
    torch.testing.assert_close(flip.joints(once, FLIP), points, rtol=0, atol=1e-12)
    weights = uniform(4, 17)
    assert torch.equal(flip.swap(weights, FLIP), weights[:, COCO_FLIP])
    assert torch.equal((flip @ flip).swap(weights, FLIP), weights)


def test_only_mirrored_samples_change_their_joints():
    view, weights = hard_views(MSRA, 16), uniform(16, 17)
    swapped = view.swap(weights, FLIP)
    for row in range(16):
        order = COCO_FLIP if view.mirrored[row] else list(range(17))
        assert torch.equal(swapped[row], weights[row, order])


def mmpose_view(udp, rng, image, keypoints):
    """A random view by mmpose's transforms, and what from_crops needs to know of it."""
    center = rng.uniform(150, 250, (1, 2)).astype(np.float32)
    size = rng.uniform(100, 300, (1, 2)).astype(np.float32)
    results = dict(
        img=image,
        img_shape=image.shape[:2],
        bbox_center=center,
        bbox_scale=size,
        bbox_rotation=rng.uniform(-80, 80, 1).astype(np.float32),
        keypoints=keypoints.copy(),
        keypoints_visible=np.ones(keypoints.shape[:2], np.float32),
        flip_indices=COCO_FLIP,
    )
    results = RandomFlip(prob=float(rng.integers(2)))(results)
    return TopdownAffine(input_size=(192, 256), use_udp=udp)(results)


@pytest.mark.parametrize('grid', [MSRA, UDP], ids=['msra', 'udp'])
def test_a_pair_of_mmpose_views_is_joined_by_one_map(grid):
    """Fact 1: easy joints land on hard joints within 1e-3 px, and fact 6 for the flips."""
    rng = np.random.default_rng(0)
    image = np.zeros((400, 420, 3), np.uint8)
    keypoints = rng.uniform(120, 280, (1, 17, 2)).astype(np.float32)
    views = [[mmpose_view(grid is UDP, rng, image, keypoints) for _ in range(24)] for _ in 'ab']

    def stack(results, key):
        return torch.tensor(np.stack([each[key][0] for each in results])).double()

    crops = [
        Affine.from_crops(
            stack(results, 'bbox_center'),
            stack(results, 'bbox_scale'),
            stack(results, 'bbox_rotation'),
            torch.tensor([each['flip'] for each in results]),
            torch.full((24,), 420),
            grid,
        )
        for results in views
    ]
    easy, hard = (stack(results, 'transformed_keypoints') for results in views)
    joined = crops[1] @ crops[0].inverse()
    gap = (joined.joints(easy, FLIP) - hard).abs().max()
    flips = [torch.tensor([each['flip'] for each in results]) for results in views]
    assert torch.equal(joined.mirrored, flips[0] ^ flips[1]) and joined.mirrored.any()
    assert gap < 1e-3, f'{gap:.1e} px'


def test_rotations_keep_lengths():
    """Fact 5: singular values 1 in pixels; 1.284 and 0.779 the way the published code rotates."""
    numbers = uniform(1, 6)
    numbers[:, 2] = 1 - 1e-9  # clipped to the largest angle
    for angle in (60.0, 90.0):
        options = dict(rotation_max=angle, rotation_std=90, rotation_prob=1, box_scale_std=0)
        view = ViewRange(**options).draw(numbers, MSRA)
        values = torch.linalg.svdvals(view.linear[0])
        assert (values - 1).abs().max() < 1e-5
        assert math.degrees(math.acos(view.linear[0, 0, 0])) == pytest.approx(angle, abs=1e-4)
        sheared = ViewRange(**options, normalized_rotation=True).draw(numbers, MSRA)
        if angle == 60:
            values = torch.linalg.svdvals(sheared.linear[0])
            assert values.tolist() == pytest.approx([1.284, 0.779], abs=1e-3)


def test_views_are_drawn_from_their_numbers():
    """Distribution of the published ranges, each sample from its own row."""
    numbers = uniform(4000, 6)
    view = ViewRange(flip_prob=0.5, shift=0.1).draw(numbers, UDP)
    alone = ViewRange(flip_prob=0.5, shift=0.1).draw(numbers[7:8], UDP)
    assert torch.equal(view.linear[7], alone.linear[0])
    assert torch.equal(view.shift[7], alone.shift[0])
    angle = torch.atan2(view.linear[:, 1, 1], -view.linear[:, 0, 1]).rad2deg() - 90
    turned = angle.abs() > 1e-9
    assert turned.double().mean() == pytest.approx(0.8, abs=0.02)
    assert angle.abs().max() == pytest.approx(60, abs=1e-6)
    # N(0, 30) clipped at two sigma
    assert angle[turned].std() == pytest.approx(28.8, abs=1)
    grow = view.determinant.abs().sqrt()
    assert grow.min() == pytest.approx(0.8) and grow.max() == pytest.approx(4 / 3)
    assert view.mirrored.double().mean() == pytest.approx(0.5, abs=0.03)
    center = torch.tensor(UDP.center).double()
    step = (view.points(center.expand(4000, 1, 2))[:, 0] - center).abs().amax(0)
    assert step.tolist() == pytest.approx([19.2, 25.6], rel=0.01) and (step <= 25.6).all()


def test_the_default_neither_flips_nor_shifts():
    view = ViewRange().draw(uniform(200, 6), MSRA)
    center = torch.tensor(MSRA.center).double().expand(200, 1, 2)
    assert not view.mirrored.any()
    assert (view.points(center) - center).abs().max() < 1e-12


def test_extreme_numbers_give_finite_views():
    for value in (0.0, 1 - 2**-24):
        numbers = torch.full((2, 6), value)
        view = ViewRange(box_scale_std=0, flip_prob=1, shift=0.1).draw(numbers, MSRA)
        assert view.linear.isfinite().all() and view.shift.isfinite().all()
    assert normal(torch.tensor([0.5])) == 0 and normal(torch.tensor([0.0])) < -5


def test_autocast_does_not_round_views():
    numbers, points = uniform(4, 6, dtype=torch.float32), random_joints(4).float()
    options = ViewRange(flip_prob=0.5)

    def chain():
        view = options.draw(numbers, MSRA)
        return (view @ view).inverse().on_heatmap(MSRA).points(points)

    plain = chain()
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(chain(), plain)


def test_wrong_values_are_refused():
    for wrong in (
        dict(flip_prob=1.5),
        dict(rotation_prob=-0.1),
        dict(rotation_std=-1),
        dict(shift=float('nan')),
        dict(box_scale=(0, 1)),
        dict(box_scale=(1.2, 0.8)),
        dict(box_scale=1.0),
    ):
        with pytest.raises(UserError, match=next(iter(wrong))):
            ViewRange(**wrong)
    for wrong in ([1, 2, 0], [0, 0], [0, 3]):
        with pytest.raises(UserError, match='flip_indices'):
            check_flip_indices(wrong)
