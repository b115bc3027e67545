"""Filters: thresholds in buffers, nested levels, refits that need enough scores."""

import copy

import numpy as np
import pytest
import torch

from mmdistill.core.errors import UserError
from mmdistill.core.filters import DualThresholdFilter, PerClassFilter, ScoreFilter, two_means
from mmdistill.core.filters.dual_threshold import floor_decimals
from mmdistill.core.pseudo import PseudoFilter
from mmdistill.registry import MODELS
from mmdistill.testing import assert_same_state

CLASSES = ['Pedestrian', 'Cyclist', 'Car']


def dual(**settings):
    return DualThresholdFilter(CLASSES, **settings)


def random_pools(seed=0, size=40):
    generator = torch.Generator().manual_seed(seed)
    return {
        (score, label): torch.rand(size, generator=generator)
        for score in ('cls', 'view_iou')
        for label in range(3)
    }


def test_score_filter():
    scores = torch.tensor([[0.2, 0.9], [0.5, 0.0], [0.51, 0.0]])
    kept = ScoreFilter(0.5)(scores, torch.tensor([0, 1, 2]))
    assert kept.tolist() == [False, False, True]


def test_per_class_filter():
    kept = PerClassFilter(dict(Car=0.7, Cyclist=0.3, Pedestrian=0.5), CLASSES)
    scores = torch.full((3, 1), 0.6)
    assert kept(scores, torch.tensor([0, 1, 2])).tolist() == [True, True, False]
    with pytest.raises(UserError, match='Truck'):
        PerClassFilter(dict(Car=0.7, Cyclist=0.3, Truck=0.5), CLASSES)


@pytest.mark.parametrize(
    'cfg',
    [
        dict(type='mmdistill.ScoreFilter', score_thr=0.5),
        dict(type='mmdistill.PerClassFilter', score_thr=dict(a=0.5), class_names=['a']),
        dict(type='mmdistill.NamedScoresFilter', score_thr=dict(cls=0.5), class_names=['a']),
        dict(type='mmdistill.DualThresholdFilter', class_names=['a'], scores=['cls']),
    ],
)
def test_all_are_filters_with_buffers(cfg):
    made = MODELS.build(cfg)
    assert isinstance(made, PseudoFilter) and list(made.buffers()) and not list(made.parameters())
    none = made(torch.zeros(0, 1), torch.zeros(0, dtype=torch.long))
    assert none.shape == (0,) and none.dtype == torch.bool


@pytest.mark.parametrize(
    'value, decimals, expected',
    [
        (0.999, 2, 0.99), (1e-5, 2, 0.0), (0.29, 2, 0.29), (0.57, 2, 0.57), (0.9, 1, 0.9),
        (0.123456, None, 0.123456), (float(torch.tensor(0.9)), 2, 0.9), (0.8999, 2, 0.89),
        (0.987654, 4, 0.9876), (1.0, 2, 1.0), (0.58, 2, 0.58),
    ],
)  # fmt: skip
def test_truncation_keeps_decimals(value, decimals, expected):
    assert floor_decimals(value, decimals) == expected


def test_initial_thresholds_of_the_official_code():
    made = dual(scores=('cls', 'objectness', 'view_iou'))
    expected = torch.tensor([0.99, 0.95, 0.93])[:, None].expand(3, 3)
    assert torch.equal(made.high, expected) and torch.equal(made.low, expected)
    assert made.high.dtype == torch.float32


@pytest.mark.parametrize('size', [0, 1, 2])
def test_small_pools_keep_the_initial_thresholds(size):
    made = dual()
    made.fit({('cls', 0): torch.rand(size), ('cls', 1): torch.tensor([0.1, 0.2, 0.9])})
    assert torch.equal(made.high[0, [0, 2]], torch.tensor([0.99, 0.99]))
    assert torch.equal(made.high[1], torch.full((3,), 0.93))
    assert made.high[0, 1] == torch.tensor(0.9) and made.low[0, 1] == torch.tensor(0.15)


def test_a_pool_that_shrinks_returns_to_the_initial_thresholds():
    made = dual()
    made.fit(random_pools())
    made.fit({})
    assert_same_state(made.state_dict(), dual().state_dict())


def test_fit_is_two_means_of_each_pool():
    made, pools = dual(decimals=None), random_pools()
    made.fit(pools)
    for row, score in enumerate(('cls', 'view_iou')):
        for label in range(3):
            low, high = two_means(pools[score, label])
            assert made.low[row, label] == torch.tensor(low)
            assert made.high[row, label] == torch.tensor(high)
    assert (made.high >= made.low).all()


def test_high_threshold_at_the_border_of_the_clusters():
    """Half way between the centres; the low threshold stays, and the pool splits there."""
    generator = torch.Generator().manual_seed(0)
    pool = torch.rand(60, generator=generator)
    center, border = (
        DualThresholdFilter(['car'], ('cls',), decimals=None, high_at=each)
        for each in ('center', 'boundary')
    )
    for each in (center, border):
        each.fit({('cls', 0): pool})
    assert torch.equal(center.low, border.low)
    torch.testing.assert_close(border.high, (center.high + center.low) / 2)
    upper = pool[pool > border.high[0, 0]]
    torch.testing.assert_close(upper.mean(), center.high[0, 0], rtol=0, atol=1e-6)
    with pytest.raises(UserError, match="high_at must be one of .*got 'top'"):
        DualThresholdFilter(['car'], ('cls',), high_at='top')


def test_fit_takes_arrays_and_any_order():
    """Neither the order of scores, of pools, nor the number of ranks they came from counts."""
    pools, first, second = random_pools(), dual(), dual()
    first.fit(pools)
    shuffled = {key: pools[key].numpy()[np.random.default_rng(0).permutation(40)] for key in pools}
    second.fit(dict(reversed(shuffled.items())))
    assert_same_state(first.state_dict(), second.state_dict())


def test_class_order_does_not_matter():
    order, pools = [2, 0, 1], random_pools()
    plain, moved = dual(), DualThresholdFilter([CLASSES[i] for i in order])
    plain.fit(pools)
    moved.fit({(score, order.index(label)): pool for (score, label), pool in pools.items()})
    assert torch.equal(moved.high, plain.high[:, order])


def test_pool_of_equal_scores_has_equal_thresholds():
    made = dual()
    made.fit({('cls', 0): torch.full((5,), 0.75)})
    assert made.high[0, 0] == made.low[0, 0] == 0.75


@pytest.mark.parametrize('seed', range(5))
def test_levels_are_nested(seed):
    made, generator = dual(), torch.Generator().manual_seed(seed)
    made.fit(random_pools(seed))
    scores = torch.rand(300, 2, generator=generator)
    labels = torch.randint(3, (300,), generator=generator)
    levels = made.levels(scores, labels)
    assert levels.dtype == torch.long and set(levels.tolist()) == {0, 1, 2}
    for row, label, level in zip(scores, labels, levels, strict=True):
        above_high = bool((row > made.high[:, label]).all())
        above_low = bool((row > made.low[:, label]).all())
        assert level == (2 if above_high else 1 if above_low else 0)
        assert above_low or not above_high
    assert torch.equal(made(scores, labels), levels >= 1)
    higher = made.levels(scores + 0.1, labels)
    assert (higher >= levels).all()


def test_levels_by_hand():
    made = DualThresholdFilter(1, scores=('cls', 'view_iou'), decimals=None)
    made.high.copy_(torch.tensor([[0.8], [0.7]]))
    made.low.copy_(torch.tensor([[0.4], [0.3]]))
    scores = torch.tensor([[0.9, 0.9], [0.9, 0.5], [0.5, 0.9], [0.9, 0.2], [0.4, 0.9], [0.8, 0.9]])
    levels = made.levels(scores, torch.zeros(6, dtype=torch.long))
    assert levels.tolist() == [2, 1, 1, 0, 0, 1]


def test_thresholds_survive_a_restart():
    made = dual()
    made.fit(random_pools())
    other = dual()
    other.load_state_dict(copy.deepcopy(made.state_dict()), strict=True)
    assert_same_state(made.state_dict(), other.state_dict())


@pytest.mark.parametrize(
    'act, words',
    [
        (lambda: dual(scores=('cls', 'iou')), "'iou'"),
        (lambda: dual(init=dict(clss=0.5)), "did you mean 'cls'"),
        (lambda: dual().fit({('cls', 3): [0.1]}), 'class 3'),
        (lambda: dual().fit({('iou', 0): [0.1]}), "'iou'"),
        (lambda: dual().fit({('cls', 1): [0.1, np.nan, 0.2]}), "'Cyclist'.*finite"),
    ],
)
def test_errors_name_score_and_class(act, words):
    with pytest.raises(UserError, match=words):
        act()
