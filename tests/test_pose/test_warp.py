"""Warping the heatmap of a joint gives the heatmap of the warped joint."""

import pytest
import torch
from pose_cases import (
    COCO_FLIP,
    CODECS,
    SIZES,
    centroids,
    encode,
    gaussians,
    hard_views,
    naive,
    random_joints,
    uniform,
    well_inside,
)

from mmdistill.pose.heatmaps import HeatmapGrid
from mmdistill.pose.peaks import decode
from mmdistill.pose.views import Affine, ViewRange, check_flip_indices
from mmdistill.pose.warp import warp, warp_views

FLIP = check_flip_indices(COCO_FLIP)
MSRA = HeatmapGrid.from_codec(CODECS['msra']())
UDP = HeatmapGrid.from_codec(CODECS['udp']())
BATCH = 48


def reference_warp(maps, view):
    """The definition, pixel by pixel: read view^-1(p) bilinearly, nothing lies outside."""
    batch, channels, height, width = maps.shape
    back, moved = view.inverse(), torch.zeros_like(maps)
    for n in range(batch):
        for row in range(height):
            for column in range(width):
                point = back.linear[n] @ maps.new_tensor([column, row]) + back.shift[n]
                left, top = point.floor().long().tolist()
                for x, y in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
                    if 0 <= x < width and 0 <= y < height:
                        share = (1 - (point[0] - x).abs()) * (1 - (point[1] - y).abs())
                        moved[n, :, row, column] += share * maps[n, :, y, x]
    return moved


def errors(name, grid=None, **options):
    """Distances in heatmap pixels of warped heatmaps' joints from the warped joints.

    The biased codec draws its Gaussians at whole pixels; there the joint is the drawn place.
    """
    codec = CODECS[name]()
    true = HeatmapGrid.from_codec(codec)
    joints = random_joints(BATCH)
    maps = encode(codec, joints)
    view = hard_views(true, BATCH, shift=0.0, **options)
    if name == 'msra':
        joints = true.to_input((true.to_heatmap(joints) + 0.5).floor())
    truth = true.to_heatmap(view.points(joints))
    moved = warp(maps, view.on_heatmap(grid or true))
    inside = well_inside(truth, true) & well_inside(true.to_heatmap(joints), true)
    sharp = HeatmapGrid(**SIZES, convention=true.convention, refinement='dark')
    decoded = (decode(moved, sharp)[0] - truth).norm(dim=-1)[inside]
    centred = (centroids(moved.double()) - truth).norm(dim=-1)[inside]
    assert len(decoded) > 300
    return decoded, centred


@pytest.mark.parametrize('flip_prob', [0.0, 0.5])
@pytest.mark.parametrize('name', sorted(CODECS))
def test_warped_heatmaps_decode_to_the_warped_joints(name, flip_prob):
    """Fact 2, and the demand of at most 0.1 heatmap pixel on average; measured 0.007."""
    for gap in errors(name, flip_prob=flip_prob):
        assert gap.mean() < 0.01, f'{gap.mean():.4f}'
        assert gap.quantile(0.95) < 0.03 and gap.max() < 0.1


@pytest.mark.parametrize('convention', ['half_pixel', 'udp'])
@pytest.mark.parametrize('name', ['msra', 'msra-unbiased'])
def test_one_normalised_grid_for_image_and_heatmap_is_worse(name, convention):
    """Both settings of align_corners move MSRA targets; measured 0.165, and 0.44 with flips."""
    exact = errors(name, flip_prob=0.0)[0].mean()
    grid = naive(HeatmapGrid.from_codec(CODECS[name]()), convention)
    plain, flips = (errors(name, grid, flip_prob=p)[0] for p in (0.0, 0.5))
    assert plain.mean() > 0.12 and flips.mean() > 0.35
    assert plain.mean() > 10 * exact and plain.max() > 0.5


def test_half_pixels_are_wrong_for_udp_too():
    exact, other = (errors('udp', grid)[0].mean() for grid in (UDP, naive(UDP)))
    assert other > 2 * exact
    assert errors('udp', naive(UDP, 'msra'), flip_prob=0.0)[0].mean() > 0.12


def test_the_naive_residual_is_the_formula():
    """Fact 7: (1 - L) 0.375 heatmap pixels beside the truth."""
    view, joints = hard_views(MSRA, BATCH, shift=0.0), random_joints(BATCH)
    truth = MSRA.to_heatmap(view.points(joints))
    maps = warp(gaussians(joints, MSRA), view.on_heatmap(naive(MSRA)))
    inside = well_inside(truth, MSRA, 8.0)
    linear = view.on_heatmap(MSRA).linear
    residual = ((torch.eye(2).double() - linear) * 0.375).sum(-1)
    gap = (centroids(maps) - truth + residual[:, None])[inside].norm(dim=-1)
    assert gap.max() < 0.05
    assert residual.norm(dim=-1).max() > 0.5


@pytest.mark.parametrize('grid', [MSRA, UDP], ids=['msra', 'udp'])
def test_warp_equals_the_definition(grid):
    small = HeatmapGrid((24, 32), (12, 16), convention=grid.convention)
    view = hard_views(small, 3)
    maps = uniform(3, 2, 32, 24, seed=7)
    torch.testing.assert_close(warp(maps, view), reference_warp(maps, view), rtol=0, atol=1e-10)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_both_normalisations_give_the_same(dtype):
    """Fact 3."""
    view, maps = hard_views(UDP, 8, dtype=dtype), uniform(8, 3, 256, 192).to(dtype)
    gap = (warp(maps, view, align_corners=True) - warp(maps, view)).abs()
    assert gap.max() < 1e-4


def test_the_identity_is_bit_for_bit():
    """Fact 4, also in half precision and beside samples that move."""
    still = Affine.identity(4)
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        images, maps = uniform(4, 3, 256, 192).to(dtype), uniform(4, 17, 64, 48).to(dtype)
        out = warp_views(still, UDP, images, maps, FLIP)
        assert torch.equal(out.images, images) and torch.equal(out.heatmaps, maps)
        assert out.valid.all() and torch.equal(out.weights, torch.ones(4, 17, dtype=dtype))
    moving = hard_views(UDP, 4, dtype=torch.float32)
    moving.linear[2], moving.shift[2] = still.linear[2], still.shift[2]
    images = uniform(4, 3, 256, 192, dtype=torch.float32)
    moved = warp(images, moving)
    assert torch.equal(moved[2], images[2]) and not torch.equal(moved[1], images[1])


@pytest.mark.parametrize('grid', [MSRA, UDP], ids=['msra', 'udp'])
def test_a_view_and_its_inverse_leave_the_interior_of_smooth_maps(grid):
    """Fact 4: back again within the error of two bilinear interpolations."""
    view, joints = hard_views(grid, 16, shift=0.0), random_joints(16)
    maps, small = gaussians(joints, grid), view.on_heatmap(grid)
    back = warp(warp(maps, small), small.inverse())
    kept = warp(warp(torch.ones_like(maps), small), small.inverse()) > 0.999
    gap = (back - maps).abs()[kept]
    # interpolation lowers a Gaussian by at most 1/8 of its curvature 1/4 per axis, twice, and
    # where the view shrinks the map by the square of its scale
    assert gap.max() < 0.15 and gap.mean() < 2e-3
    inside = well_inside(grid.to_heatmap(joints), grid) & well_inside(
        grid.to_heatmap(view.points(joints)), grid
    )
    assert (centroids(back) - centroids(maps))[inside].norm(dim=-1).mean() < 0.02


@pytest.mark.parametrize('grid', [MSRA, UDP], ids=['msra', 'udp'])
def test_flipped_maps_flip_back(grid):
    """A reflection about the centre meets whole pixels on the image and on the heatmap."""
    flip = ViewRange(rotation_std=0, box_scale_std=0, flip_prob=1).draw(uniform(2, 6), grid)
    images, maps = uniform(2, 3, 256, 192, seed=8), uniform(2, 17, 64, 48, seed=9)
    once = warp_views(flip, grid, images, maps, FLIP)
    # MSRA mirrors x to W - x: column 0 has no partner
    first = 1 if grid is MSRA else 0
    expected = images.flip(-1).roll(first, -1)[..., first:]
    torch.testing.assert_close(once.images[..., first:], expected, rtol=0, atol=1e-9)
    expected = maps[:, COCO_FLIP].flip(-1).roll(first, -1)[..., first:]
    torch.testing.assert_close(once.heatmaps[..., first:], expected, rtol=0, atol=1e-9)
    twice = warp_views(flip, grid, once.images, once.heatmaps, FLIP)
    torch.testing.assert_close(twice.images[..., first:], images[..., first:], rtol=0, atol=1e-9)
    torch.testing.assert_close(twice.heatmaps[..., first:], maps[..., first:], rtol=0, atol=1e-9)


def test_image_and_heatmap_stay_together():
    """A Gaussian drawn into the image and the target of its joint move to one place."""
    for grid in (MSRA, UDP):
        view, joints = hard_views(grid, 8), random_joints(8, count=3, margin=40)
        pixels = HeatmapGrid(SIZES['input_size'], SIZES['input_size'], grid.convention)
        images = gaussians(joints, pixels, sigma=6.0)
        out = warp_views(view, grid, images, gaussians(joints, grid), torch.tensor([0, 2, 1]))
        seen = view.swap(grid.to_heatmap(centroids(out.images)), torch.tensor([0, 2, 1]))
        drawn = grid.to_heatmap(view.joints(joints, torch.tensor([0, 2, 1])))
        inside = well_inside(drawn, grid)
        assert (centroids(out.heatmaps) - seen)[inside].norm(dim=-1).mean() < 0.02
        assert (centroids(out.heatmaps) - drawn)[inside].norm(dim=-1).mean() < 0.02


def test_a_batch_of_views_equals_each_alone():
    grid, view = MSRA, hard_views(MSRA, 5, dtype=torch.float32)
    images, maps = uniform(5, 3, 256, 192).float(), uniform(5, 17, 64, 48).float()
    weights = uniform(5, 17).float()
    together = warp_views(view, grid, images, maps, FLIP, weights)
    for row in range(5):
        one = slice(row, row + 1)
        alone = warp_views(
            Affine(view.linear[one], view.shift[one]),
            grid,
            images[one],
            maps[one],
            FLIP,
            weights[one],
        )
        for key in ('images', 'heatmaps', 'weights', 'places', 'valid'):
            assert torch.equal(getattr(together, key)[one], getattr(alone, key)), key


def test_joints_that_leave_the_map_get_weight_zero():
    grid = UDP
    shift = torch.tensor([[60.0, 0.0], [0.0, 0.0]])
    view = Affine(torch.eye(2).repeat(2, 1, 1), shift)
    joints = torch.tensor([[[20.0, 100.0], [150.0, 100.0], [131.0, 50.0]]]).repeat(2, 1, 1)
    flip = torch.tensor([0, 2, 1])
    maps = gaussians(joints, grid)
    out = warp_views(view, grid, torch.zeros(2, 3, 256, 192), maps, flip, torch.full((2, 3), 0.5))
    assert out.valid.tolist() == [[True, False, True], [True, True, True]]
    assert out.weights.tolist() == [[0.5, 0.0, 0.5], [0.5, 0.5, 0.5]]
    # no evidence, no weight: nothing was on the map before the view
    maps[1, 2] = 0
    out = warp_views(view, grid, torch.zeros(2, 3, 256, 192), maps, flip)
    assert out.weights.tolist() == [[1, 0, 1], [1, 1, 0]]
    # (-1, -1) stands for nowhere, also where the view would bring that place onto the map
    view = Affine(torch.eye(2).repeat(2, 1, 1), torch.full((2, 2), 20.0))
    out = warp_views(view, grid, torch.zeros(2, 3, 256, 192), maps, flip)
    assert out.valid.tolist() == [[True, True, True], [True, True, False]]


def test_weights_of_joints_change_sides_with_their_joints():
    view = hard_views(UDP, 8, shift=0.0)
    joints, weights = random_joints(8, margin=80), uniform(8, 17)
    images = torch.zeros(8, 3, 256, 192).double()
    out = warp_views(view, UDP, images, gaussians(joints, UDP), FLIP, weights)
    for row in range(8):
        order = COCO_FLIP if view.mirrored[row] else list(range(17))
        assert torch.equal(out.weights[row], weights[row, order] * out.valid[row])
    assert view.mirrored.any() and out.valid.double().mean() > 0.9


def test_given_places_are_used_and_change_sides_with_their_joints():
    flip = ViewRange(rotation_std=0, box_scale_std=0, flip_prob=1).draw(uniform(1, 6), UDP)
    places = torch.tensor([[[3.0, 5.0], [90.0, 5.0], [20.0, 5.0]]]).double()
    maps = torch.zeros(1, 3, 64, 48).double()
    images = torch.zeros(1, 3, 256, 192).double()
    out = warp_views(flip, UDP, images, maps, torch.tensor([0, 2, 1]), places=places)
    assert out.valid.tolist() == [[True, True, False]]
    expected = torch.tensor([[[44.0, 5.0], [27.0, 5.0], [-43.0, 5.0]]]).double()
    torch.testing.assert_close(out.places, expected)


@pytest.mark.parametrize('channels', [1, 17])
def test_weights_of_pixels_move_with_the_heatmaps(channels):
    grid, view = MSRA, hard_views(MSRA, 4, flip_prob=1.0)
    joints = random_joints(4)
    maps, weights = gaussians(joints, grid), uniform(4, channels, 64, 48)
    images = torch.zeros(4, 3, 256, 192).double()
    out = warp_views(view, grid, images, maps, FLIP, weights)
    plain = warp_views(view, grid, images, maps, FLIP)
    assert torch.equal(out.heatmaps, plain.heatmaps)
    expected = warp(weights, view.on_heatmap(grid))
    if channels == 17:
        expected = view.swap(expected, FLIP) * out.valid[:, :, None, None]
    assert torch.equal(out.weights, expected)


def test_targets_have_no_gradient_and_inputs_stay():
    view = hard_views(MSRA, 2, dtype=torch.float32)
    images = uniform(2, 3, 256, 192).float().requires_grad_()
    maps = uniform(2, 17, 64, 48).float().requires_grad_()
    before = images.detach().clone(), maps.detach().clone()
    out = warp_views(view, MSRA, images, maps, FLIP, torch.ones(2, 17, requires_grad=True))
    assert not any(
        value.requires_grad for value in (out.images, out.heatmaps, out.weights, out.places)
    )
    assert torch.equal(images, before[0]) and torch.equal(maps, before[1])
    # the plain function is differentiable
    warp(maps, view.on_heatmap(MSRA)).sum().backward()
    assert maps.grad.abs().sum() > 0


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_maps_keep_their_place(dtype):
    view, joints = hard_views(MSRA, 8, dtype=torch.float32), random_joints(8)
    maps = gaussians(joints, MSRA)
    moved = warp(maps.to(dtype), view.on_heatmap(MSRA))
    assert moved.dtype == dtype
    assert (moved.double() - warp(maps, view.on_heatmap(MSRA))).abs().max() < 0.01
    with torch.autocast('cpu', torch.bfloat16):
        again = warp(maps.float(), view.on_heatmap(MSRA))
    assert torch.equal(again, warp(maps.float(), view.on_heatmap(MSRA)))


def test_warping_is_linear_so_a_fused_target_is_warped_once():
    view = hard_views(MSRA, 4).on_heatmap(MSRA)
    a, b = uniform(4, 17, 64, 48, seed=1), uniform(4, 17, 64, 48, seed=2)
    torch.testing.assert_close(
        warp(0.7 * a + 0.3 * b, view), 0.7 * warp(a, view) + 0.3 * warp(b, view)
    )


def test_no_step_waits_for_the_device():
    """Tensors without data: whatever asked for a value would fail."""
    numbers, maps = torch.rand(2, 6, device='meta'), torch.rand(2, 17, 64, 48, device='meta')
    view = ViewRange().draw(numbers, MSRA)
    images = torch.rand(2, 3, 256, 192, device='meta')
    out = warp_views(view @ view.inverse(), MSRA, images, maps, FLIP.to('meta'))
    assert out.heatmaps.shape == maps.shape and out.images.shape == images.shape
    assert decode(maps, MSRA)[0].shape == (2, 17, 2)


def test_sizes_that_do_not_fit_are_refused():
    view, images, maps = Affine.identity(2), torch.zeros(2, 3, 256, 192), torch.zeros(2, 17, 64, 48)
    with pytest.raises(ValueError, match='images'):
        warp_views(view, MSRA, images.mT, maps, FLIP)
    with pytest.raises(ValueError, match='heatmaps'):
        warp_views(view, MSRA, images, maps.mT, FLIP)
    with pytest.raises(ValueError, match='3 views for 2'):
        warp(maps, Affine.identity(3))
