"""Gradients as values: laws against autograd, torch's clipping and two ranks."""

import pytest
import torch
from torch import nn

from mmdistill.core.gradients import add_, all_finite, clipped, gradients, mean_over_ranks_
from mmdistill.testing.ranks import run_gloo


def params_of(seed: int = 0) -> list[nn.Parameter]:
    """Three parameters; the last one is never used."""
    torch.manual_seed(seed)
    return [nn.Parameter(torch.randn(shape)) for shape in ((4, 3), (3,), (2,))]


def loss_of(params: list[nn.Parameter], scale: float = 1.0) -> torch.Tensor:
    """A number that depends on the first two; the gradient of the bias is an expanded tensor."""
    return scale * (params[0].square().sum() + params[1].sum())


def test_they_are_those_of_backward_and_grad_stays_empty():
    params = params_of()
    found = gradients(loss_of(params), params)
    assert all(each.grad is None for each in params)
    loss_of(params).backward()
    assert torch.equal(found[0], params[0].grad)
    assert torch.equal(found[1], params[1].grad)
    assert found[1].stride() == params[1].stride()
    assert found[2] is None


def test_a_constant_has_none():
    assert gradients(torch.tensor(3.0), params_of()) == [None] * 3


def test_sums_are_those_of_two_backward_calls_bit_for_bit():
    params = params_of()
    one, two = gradients(loss_of(params, 0.3), params), gradients(loss_of(params, 1.7), params)
    loss_of(params, 0.3).backward()
    loss_of(params, 1.7).backward()
    total = add_(one, two)
    for each, param in zip(total[:2], params, strict=False):
        assert torch.equal(each, param.grad)


def test_where_one_has_none_the_other_counts():
    a, b = torch.ones(2), torch.full((2,), 3.0)
    total = add_([None, a, None], [b, None, None])
    assert torch.equal(total[0], b)
    assert total[0] is not b
    assert total[1] is a
    assert total[2] is None


@pytest.mark.parametrize(
    ('clip', 'options'),
    [
        (torch.nn.utils.clip_grad_norm_, dict(max_norm=0.5)),
        (torch.nn.utils.clip_grad_norm_, dict(max_norm=1e9, norm_type=1)),
        (torch.nn.utils.clip_grad_value_, dict(clip_value=0.1)),
    ],
)
def test_clipping_is_torchs_and_leaves_the_given_ones(clip, options):
    params = params_of()
    found = gradients(loss_of(params), params)
    kept = [None if each is None else each.clone() for each in found]
    result = clipped(found, clip, options)
    loss_of(params).backward()
    clip(params, **options)
    assert torch.equal(result[0], params[0].grad)
    assert torch.equal(result[1], params[1].grad)
    assert result[2] is None
    assert torch.equal(found[0], kept[0])


def test_no_options_clip_nothing():
    found = gradients(loss_of(params_of()), params_of())
    assert clipped(found, None, None) is found


def test_one_bad_number_is_seen():
    good = [torch.ones(3), None, torch.zeros(2)]
    assert bool(all_finite(good))
    assert not bool(all_finite([*good, torch.tensor([1.0, float('inf')])]))
    assert not bool(all_finite([*good, torch.tensor([float('nan')])]))


def _average(rank: int) -> list[float]:
    """What a rank holds after the mean."""
    grads = [torch.full((2,), float(rank)), None, torch.full((1,), 10.0 * rank).double()]
    mean_over_ranks_(grads)
    return [*grads[0].tolist(), *grads[2].tolist()]


def test_the_mean_over_two_ranks():
    assert run_gloo(_average, 2) == [[0.5, 0.5, 5.0]] * 2
