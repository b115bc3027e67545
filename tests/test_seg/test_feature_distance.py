"""The distance of thing features is that of loops, finite and still where nothing is to learn."""

import numpy as np
import pytest
import torch
from no_wait import NoWait
from pixel_cases import downsample_by_loops, labels_of, logits_of, uniform

from mmdistill.core.errors import UserError
from mmdistill.registry import MODELS
from mmdistill.seg.feature_distance import FeatureDistance, downsample_labels, feature_distance

MASK = torch.ones(2, 4, 5, dtype=torch.bool)


@pytest.mark.parametrize('stride', [2, 4, 8])
@pytest.mark.parametrize('share', [0.3, 0.5, 0.75, 1.0])
def test_labels_are_counted_as_by_loops(stride, share):
    """Fact 24: 255 included, ties and shares of exactly the limit too."""
    for seed in range(3):
        labels = labels_of(2, 26, 34, seed=seed).roll((1, 2), (1, 2))[:, :24, :32]
        noisy = torch.where(uniform(2, 24, 32, seed=seed) < 0.2, 1, labels)
        size = (24 // stride, 32 // stride)
        expected = downsample_by_loops(noisy, stride, 5, share)
        assert torch.equal(downsample_labels(noisy, size, 5, share), expected)
        assert torch.equal(downsample_labels(noisy[:, None], size, 5, share), expected)


def test_golden_cells():
    """12 of 16 pixels are 0.75 and count, 11 do not; a full ignored cell stays ignored."""
    labels = torch.full((1, 4, 12), 3)
    labels[0, 0, :4] = torch.tensor([255, 1, 1, 0])
    labels[0, 0, 4:8], labels[0, 1, 4] = 1, 1
    labels[0, :, 8:] = 255
    assert downsample_labels(labels, (1, 3), 5).tolist() == [[[3, 255, 255]]]
    assert downsample_labels(labels, (1, 3), 5, 11 / 16).tolist() == [[[3, 3, 255]]]


def test_rest_at_the_border_is_left_out_and_misfits_are_refused():
    labels = labels_of(1, 19, 21)
    cut = downsample_labels(labels[:, :16, :20], (4, 5), 5)
    assert torch.equal(downsample_labels(labels, (4, 5), 5), cut)
    with pytest.raises(UserError, match='513 x 513'):
        downsample_labels(torch.zeros(1, 513, 513, dtype=torch.long), (65, 65), 5)
    with pytest.raises(UserError, match='4 x 4'):
        downsample_labels(torch.zeros(1, 4, 4, dtype=torch.long), (8, 8), 5)


def test_distance_is_the_mean_of_norms_at_the_mask():
    mine, theirs = logits_of(2, 7, 4, 5), logits_of(2, 7, 4, 5, seed=1)
    mask = uniform(2, 4, 5) < 0.4
    norms = [
        np.linalg.norm((mine - theirs)[b, :, y, x].double())
        for b, y, x in np.ndindex(2, 4, 5)
        if mask[b, y, x]
    ]
    assert feature_distance(mine, theirs, mask).item() == pytest.approx(np.mean(norms), rel=1e-6)


def test_golden_distance_and_gradient():
    """(3, 4) against 0 has distance 5 and gradient (3, 4) / 5, halved by two positions."""
    mine = torch.zeros(1, 2, 1, 3)
    mine[0, :, 0, 0] = torch.tensor([3.0, 4.0])
    mine[0, :, 0, 2] = 100
    mine.requires_grad_()
    mask = torch.tensor([[[True, True, False]]])
    loss = feature_distance(mine, torch.zeros(1, 2, 1, 3), mask)
    loss.backward()
    assert loss == 2.5
    torch.testing.assert_close(mine.grad[0, :, 0, 0], torch.tensor([0.3, 0.4]))
    assert not mine.grad[0, :, 0, 1:].any()


@pytest.mark.parametrize('case', ['no thing', 'no distance'])
def test_nothing_to_learn_is_zero_with_zero_gradient(case):
    """Fact 24: never nan."""
    theirs = logits_of(2, 3, 4, 5)
    mine = theirs.clone() + (case == 'no thing')
    mine.requires_grad_()
    mask = MASK if case == 'no distance' else torch.zeros_like(MASK)
    loss = feature_distance(mine, theirs, mask)
    loss.backward()
    assert loss == 0 and torch.equal(mine.grad, torch.zeros_like(mine))


def test_gradients_are_those_of_finite_differences():
    mine = logits_of(2, 3, 4, 5, seed=2).double().requires_grad_()
    theirs = logits_of(2, 3, 4, 5, seed=3).double()
    mask = uniform(2, 4, 5, seed=4) < 0.5
    assert torch.autograd.gradcheck(lambda each: feature_distance(each, theirs, mask), mine)


def test_the_reference_learns_nothing_and_halves_do_not_overflow():
    mine = torch.full((2, 3, 4, 5), 300.0).half().requires_grad_()
    theirs = torch.zeros(2, 3, 4, 5).half().requires_grad_()
    loss = feature_distance(mine, theirs, MASK)
    loss.backward()
    assert loss.item() == pytest.approx(300 * 3**0.5) and mine.grad.isfinite().all()
    assert theirs.grad is None


def test_reordered_images_have_the_same_distance():
    mine, theirs, mask = (
        logits_of(3, 4, 5, 5),
        logits_of(3, 4, 5, 5, seed=1),
        uniform(3, 5, 5) < 0.5,
    )
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(
        feature_distance(mine[order], theirs[order], mask[order]),
        feature_distance(mine, theirs, mask),
    )


def test_the_module_weighs_things_of_the_last_level():
    """Classes 2 and 4 count; the published defaults are 0.005, 0.75 and Cityscapes' things."""
    labels = labels_of(2, 16, 20, seed=5)
    mine, theirs = logits_of(2, 7, 4, 5), logits_of(2, 7, 4, 5, seed=1)
    small = downsample_by_loops(labels, 4, 5, 0.75)
    mask = (small == 2) | (small == 4)
    module = FeatureDistance(5, (2, 4), loss_weight=0.1)
    loss = module([torch.zeros(1), mine], [torch.zeros(1), theirs], labels[:, None])
    assert mask.any() and torch.equal(module.mask(labels, (4, 5)), mask)
    torch.testing.assert_close(loss, 0.1 * feature_distance(mine, theirs, mask))
    default = MODELS.build(dict(type='mmdistill.FeatureDistance'))
    assert default.loss_weight == 0.005 and default.min_share == 0.75
    assert default.things.tolist() == [6, 7, 11, 12, 13, 14, 15, 16, 17, 18]
    assert not default.state_dict() and not list(default.parameters())
    assert not FeatureDistance(5, ()).mask(labels, (4, 5)).any()


def test_no_step_waits_for_the_device():
    features, module = [logits_of(2, 7, 4, 5).requires_grad_()], FeatureDistance(5, (1, 2, 3))
    reference, labels = [logits_of(2, 7, 4, 5, seed=1)], labels_of(2, 16, 20)
    with NoWait():
        module(features, reference, labels).backward()
    assert features[0].grad.any()


def test_bad_values_are_refused():
    with pytest.raises(UserError, match='19'):
        FeatureDistance(19, (6, 19))
    with pytest.raises(UserError, match='min_share'):
        FeatureDistance(min_share=0)
