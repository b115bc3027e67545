"""Order statistics without a sort equal those of a sort."""

import numpy as np
import pytest
import torch
from pixel_cases import uniform

from mmdistill.seg.selection import nth_smallest, percentile


def cases():
    """Values that are hard on the bits: signs, zeros, ties, tiny, huge, infinite."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(501, generator=generator)
    yield normal
    yield normal * 10.0 ** torch.randint(-38, 38, (501,), generator=generator)
    yield normal.round()
    yield torch.zeros(501)
    yield torch.cat([normal[:499], torch.tensor([torch.inf, -torch.inf])])


@pytest.mark.parametrize('values', list(cases()))
@pytest.mark.parametrize('share', [0.01, 0.5, 1.1])
def test_every_rank_is_that_of_a_sort(values, share):
    valid = uniform(len(values), seed=1) < share
    ordered = values[valid].sort()[0]
    for rank in {0, 1, len(ordered) // 3, len(ordered) - 1}:
        rank = min(rank, len(ordered) - 1)
        assert nth_smallest(values, valid, rank) == ordered[rank]
        assert nth_smallest(values, valid, torch.tensor(rank)) == ordered[rank]


def test_ranks_are_clamped_and_nothing_gives_nan():
    values = torch.tensor([3.0, 1.0, 2.0])
    valid = torch.tensor([True, True, False])
    assert nth_smallest(values, valid, 7) == 3 and nth_smallest(values, valid, -1) == 1
    assert nth_smallest(values, torch.zeros(3, dtype=torch.bool), 0).isnan()
    assert percentile(values, torch.zeros(3, dtype=torch.bool), 50).isnan()


@pytest.mark.parametrize('percent', [0, 12.5, 50, 79.9, 80, 99.99, 100])
@pytest.mark.parametrize('count', [1, 2, 3, 500])
def test_percentile_is_numpys(percent, count):
    values = uniform(2, 500, seed=2)
    valid = torch.zeros(2, 500, dtype=torch.bool)
    valid.view(-1)[torch.randperm(1000, generator=torch.Generator().manual_seed(3))[:count]] = True
    expected = np.percentile(values[valid].double().numpy(), percent)
    assert abs(percentile(values, valid, percent).item() - expected) < 1e-7


def test_golden_percentile():
    """80 % of the way from 0 to 4 is 3.2, between 3 and 4."""
    values = torch.tensor([4.0, 0.0, 99.0, 2.0, 1.0, 3.0])
    valid = values < 99
    assert percentile(values, valid, 80).item() == pytest.approx(3.2, abs=1e-6)


def test_more_than_16_million_entries():
    """``torch.quantile`` ends there."""
    values = torch.arange(2**24 + 3, dtype=torch.int32).flip(0).float() / 2**25
    valid = torch.ones(1, dtype=torch.bool).expand(len(values))
    assert nth_smallest(values, valid, 12345678) == 12345678 / 2**25


def test_no_gradient_no_change_any_precision():
    values = uniform(4, 5).requires_grad_()
    kept = values.detach().clone()
    valid = torch.ones(4, 5, dtype=torch.bool)
    found = nth_smallest(values, valid, 3)
    assert not found.requires_grad and torch.equal(values.detach(), kept)
    half = values.detach().bfloat16().t()
    assert nth_smallest(half, valid.t(), 3) == half.flatten().sort()[0][3].float()


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match='differ'):
        nth_smallest(torch.zeros(3), torch.zeros(2, dtype=torch.bool), 0)
    with pytest.raises(ValueError, match='101'):
        percentile(torch.zeros(3), torch.ones(3, dtype=torch.bool), 101)
