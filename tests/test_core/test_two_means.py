"""Exact 1-D 2-means: optimal, permutation invariant, shift and scale equivariant."""

from itertools import product

import numpy as np
import pytest
import torch

from mmdistill.core.filters import two_means


def spread(values):
    return float(((values - values.mean()) ** 2).sum()) if len(values) else 0.0


def brute_force(values):
    """Least within-cluster sum of squares over all 2^n assignments."""
    values = np.asarray(values, dtype=np.float64)
    best = spread(values)
    for chosen in product([False, True], repeat=len(values)):
        mask = np.array(chosen)
        best = min(best, spread(values[mask]) + spread(values[~mask]))
    return best


def within(values, centers):
    """Sum of squared distances to the nearer centre."""
    distance = (np.asarray(values, dtype=np.float64)[:, None] - np.array(centers)) ** 2
    return float(distance.min(1).sum())


@pytest.fixture(params=range(12))
def rng(request):
    return np.random.default_rng(request.param)


def test_optimal_among_all_assignments(rng):
    for size in (1, 2, 3, 5, 9):
        values = rng.choice([rng.random(size), rng.integers(0, 4, size) / 4])
        low, high = two_means(values)
        assert low <= high
        assert within(values, (low, high)) == pytest.approx(brute_force(values), abs=1e-12)


def test_centres_are_means_of_their_clusters(rng):
    values = rng.random(200)
    low, high = two_means(values)
    border = (low + high) / 2
    assert values[values < border].mean() == pytest.approx(low, abs=1e-12)
    assert values[values > border].mean() == pytest.approx(high, abs=1e-12)


def test_permutation_invariant(rng):
    values = rng.random(50)
    assert two_means(values) == two_means(rng.permutation(values)) == two_means(np.sort(values))


def test_shift_and_scale_equivariant(rng):
    values = rng.random(40)
    low, high = two_means(values)
    for shift, scale in ((0.25, 1), (-3, 2), (1000, 1), (0, 1e-4)):
        moved = two_means(values * scale + shift)
        assert moved == pytest.approx((low * scale + shift, high * scale + shift), rel=1e-9)


def test_mirror(rng):
    values = rng.random(31)
    low, high = two_means(values)
    assert two_means(-values) == pytest.approx((-high, -low), abs=1e-12)


def test_golden():
    assert two_means([0.1, 0.2, 0.8, 1.0]) == pytest.approx((0.15, 0.9))
    assert two_means([0.0, 0.0, 0.0, 1.0]) == (0.0, 1.0)
    assert two_means([0.9, 0.1]) == (0.1, 0.9)  # lists are float64


@pytest.mark.parametrize('value', [0.3, 0.0, -7.25, 1e30])
@pytest.mark.parametrize('size', [1, 2, 7])
def test_equal_values_have_equal_centres(value, size):
    assert two_means(np.full(size, value)) == (value, value)


def test_equal_values_stay_together(rng):
    values = rng.integers(0, 3, 30) / 10.0
    if len(np.unique(values)) > 1:
        low, high = two_means(values)
        border = (low + high) / 2
        assert within(values, (low, high)) == pytest.approx(
            spread(values[values < border]) + spread(values[values > border]), abs=1e-12
        )


def test_precise_for_float32_far_from_zero():
    values = torch.tensor([4096.0, 4096.0005, 4097.0, 4097.0005])
    low, high = two_means(values)
    assert high - low == pytest.approx(1.0, abs=1e-6)


def test_large_pools():
    values = torch.rand(200_000, generator=torch.Generator().manual_seed(0))
    low, high = two_means(values)
    assert low == pytest.approx(0.25, abs=0.01) and high == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize(
    'values, words',
    [
        ([], 'at least one'),
        ([0.1, float('nan')], 'finite'),
        ([1, np.inf], 'finite'),
        ([1e308, -1e308, 1e308], '1e150'),
    ],
)
def test_errors(values, words):
    with pytest.raises(ValueError, match=words):
        two_means(np.asarray(values, dtype=np.float64))
