"""Losses on heatmaps: mmpose's number, one target for two networks, masks."""

import pytest
import torch
from mmpose.models.losses import KeypointMSELoss
from pose_cases import CODECS, hard_views, uniform

from mmdistill.pose.heatmaps import HeatmapGrid
from mmdistill.pose.losses import (
    confidence_mask,
    consistency,
    consistency_terms,
    fused_target,
    heatmap_mse,
    in_bounds_mask,
)
from mmdistill.pose.views import Affine
from mmdistill.pose.warp import warp

SHAPE = (4, 17, 16, 12)
GRID = HeatmapGrid.from_codec(CODECS['msra']())


def maps(seed, dtype=torch.float64):
    return uniform(*SHAPE, seed=seed, dtype=dtype)


def gradient(loss, pred):
    return torch.autograd.grad(loss, pred)[0]


@pytest.mark.parametrize('shape', [None, (4, 17), SHAPE])
def test_the_loss_is_mmposes(shape):
    pred, target = maps(1), maps(2)
    weight = None if shape is None else 2 * uniform(*shape, seed=3)
    theirs = KeypointMSELoss(use_target_weight=True)(pred, target, weight)
    torch.testing.assert_close(heatmap_mse(pred, target, weight), theirs, rtol=1e-14, atol=0)


def test_one_mask_for_all_joints_is_the_mask_of_mmpose():
    pred, target, mask = maps(1), maps(2), uniform(4, 1, 16, 12, seed=3) > 0.5
    theirs = KeypointMSELoss()(pred, target, mask=mask)
    torch.testing.assert_close(heatmap_mse(pred, target, mask), theirs)


def test_half_of_it_is_the_peers_joint_mse():
    """0.5 mean over B, h, w and then over 17 joints: our number is exactly twice as large."""
    pred, target = maps(1), maps(2)
    peers = sum(0.5 * ((pred - target)[:, k] ** 2).mean() for k in range(17)) / 17
    torch.testing.assert_close(heatmap_mse(pred, target), 2 * peers)


def test_a_weight_changes_its_own_joint_alone():
    pred, weight = maps(1).requires_grad_(), torch.ones(4, 17)
    before = gradient(heatmap_mse(pred, maps(2), weight), pred)
    weight[1, 3] = 0
    after = gradient(heatmap_mse(pred, maps(2), weight), pred)
    assert not after[1, 3].any() and before[1, 3].all()
    after[1, 3] = before[1, 3]
    assert torch.equal(before, after)


def test_half_precision_is_compared_in_single():
    pred, target = maps(1).half(), maps(2).half()
    loss = heatmap_mse(pred, target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, heatmap_mse(pred.float(), target.float()))


@pytest.mark.parametrize('mask', ['none', 'joint', 'pixel'])
@pytest.mark.parametrize('lam', [(1.0, 0.5), (0.3, 2.0), (torch.tensor(0.7), 0.2)])
def test_fused_and_two_terms_have_one_gradient(mask, lam):
    pred, teacher, reviewer = maps(1).requires_grad_(), maps(2), maps(3)
    weight = dict(
        none=None, joint=uniform(4, 17, seed=4) > 0.3, pixel=uniform(*SHAPE, seed=4) > 0.3
    )[mask]
    again = None if weight is None else weight.clone()
    fused = consistency(pred, teacher, reviewer, weight, weight, *lam)
    first, second = consistency_terms(pred, teacher, reviewer, weight, again)
    two = lam[0] * first + lam[1] * second
    gap = gradient(fused, pred) - gradient(two, pred)
    assert (
        gap.norm()
        < 1e-6 * gradient(consistency(pred, teacher, reviewer, weight, weight, *lam), pred).norm()
    )
    # the values differ by what no student can change
    constant = lam[0] * lam[1] / (lam[0] + lam[1]) * heatmap_mse(teacher, reviewer, weight)
    torch.testing.assert_close(two - fused, constant, rtol=1e-6, atol=1e-12)


def test_different_masks_take_two_terms():
    pred, teacher, reviewer = maps(1).requires_grad_(), maps(2), maps(3)
    one, other = uniform(4, 17, seed=4) > 0.5, uniform(4, 17, seed=5) > 0.5
    loss = consistency(pred, teacher, reviewer, one, other, 1.0, 0.5)
    by_hand = heatmap_mse(pred, teacher, one) + 0.5 * heatmap_mse(pred, reviewer, other)
    torch.testing.assert_close(loss, by_hand, rtol=0, atol=0)
    torch.testing.assert_close(gradient(loss, pred), gradient(by_hand, pred), rtol=0, atol=0)
    # equal values in two objects: the same number as for the two terms, so no guess was made
    loss = consistency(pred, teacher, reviewer, one, one.clone(), 1.0, 0.5)
    by_hand = heatmap_mse(pred, teacher, one) + 0.5 * heatmap_mse(pred, reviewer, one)
    torch.testing.assert_close(loss, by_hand, rtol=0, atol=0)


def test_a_reviewer_of_weight_zero_does_not_exist():
    """Bit for bit, so that the whole training is the one without a reviewer."""
    pred, teacher, reviewer = maps(1).requires_grad_(), maps(2), maps(3)
    without = consistency(pred, teacher, None, lam_t=0.7)
    slope = gradient(consistency(pred, teacher, None, lam_t=0.7), pred)
    for loss in (
        consistency(pred, teacher, reviewer, lam_t=0.7, lam_r=0),
        consistency(pred, teacher, torch.full_like(reviewer, torch.nan), lam_t=0.7, lam_r=0.0),
    ):
        assert torch.equal(loss, without)
        assert torch.equal(gradient(loss, pred), slope)
    assert torch.equal(fused_target(teacher, reviewer, 2.0, 0.0), teacher)
    assert torch.equal(fused_target(teacher, reviewer, 0, 1), reviewer)
    alone = consistency(pred, None, reviewer, lam_r=0.5)
    assert torch.equal(alone, consistency(pred, teacher, reviewer, lam_t=0, lam_r=0.5))


def test_nothing_to_follow_is_a_zero_with_a_gradient():
    pred = maps(1).requires_grad_()
    for loss in (consistency(pred, None), consistency(pred, maps(2), maps(3), lam_t=0, lam_r=0)):
        assert loss == 0 and not gradient(loss, pred).any()


def test_targets_get_no_gradient():
    pred, teacher, reviewer = (maps(seed).requires_grad_() for seed in (1, 2, 3))
    for masks in ((None, None), (None, torch.ones(4, 17))):
        consistency(pred, teacher, reviewer, *masks).backward()
    assert teacher.grad is None and reviewer.grad is None and pred.grad.any()


def test_confidence_asks_for_the_peak():
    heatmaps = torch.zeros(1, 4, 5, 6)
    heatmaps[0, 1, 2, 3], heatmaps[0, 2, 4, 5], heatmaps[0, 3, 0, 0] = 0.5, 0.4, torch.nan
    assert confidence_mask(heatmaps, 0.5).tolist() == [[False, True, False, False]]
    assert confidence_mask(heatmaps, 0.0).tolist() == [[True, True, True, False]]


@pytest.mark.parametrize('name', sorted(CODECS))
def test_pixels_in_bounds_are_those_that_the_warp_can_read(name):
    grid = HeatmapGrid.from_codec(CODECS[name]())
    view = hard_views(grid, 8)
    mask = in_bounds_mask(view, grid)
    width, height = grid.heatmap_size
    assert mask.shape == (8, 1, height, width) and 0.3 < mask.double().mean() < 1
    read = warp(torch.ones(8, 1, height, width, dtype=torch.float64), view.on_heatmap(grid))
    # a source half a pixel outside is read at half its weight, per axis
    assert read[mask].min() > 0.25 - 1e-6 and read[~mask].max() < 0.5 + 1e-6
    assert in_bounds_mask(Affine.identity(2), grid).all()


def test_wrong_shapes_and_weights_are_refused():
    for weight in (torch.ones(4), torch.ones(17, 4), torch.ones(4, 17, 1, 1)):
        with pytest.raises(ValueError, match='weight'):
            heatmap_mse(maps(1), maps(2), weight)
    with pytest.raises(ValueError, match='heatmaps'):
        heatmap_mse(maps(1), maps(2)[:, :1])
    for lam in ((0, 0), (-1, 2), (float('nan'), 1)):
        with pytest.raises(ValueError, match='positive'):
            fused_target(maps(1), maps(2), *lam)
