"""BertAdam: the first update, clipping tensor by tensor, a clock per tensor, float64 reference."""

import pytest
import torch
from torch import nn

from mmdistill.core.errors import UserError
from mmkd.optim.bert_adam import BertAdam, rate


def tensors(*values):
    """Parameters in float64."""
    return [nn.Parameter(torch.tensor(each, dtype=torch.double)) for each in values]


def test_the_first_update_is_the_root_of_ten_learning_rates():
    (weight,) = tensors([1.0, -2.0, 3.0])
    optim = BertAdam([weight], lr=1e-3, weight_decay=0, max_grad_norm=0, eps=0)
    weight.grad = torch.tensor([0.5, -7.0, 1e-3], dtype=torch.double)
    before = weight.detach().clone()
    optim.step()
    moved = (before - weight.detach()) / 1e-3
    assert torch.allclose(moved, 10**0.5 * weight.grad.sign(), rtol=1e-9)


def test_it_is_the_rule_written_out():
    first, second = tensors([[1.0, -2], [0.5, 3]], [0.1, 0.2, -0.3])
    optim = BertAdam([first, second], lr=0.01, warmup=0.25, total_steps=8, weight_decay=0.1)
    draws = torch.Generator().manual_seed(0)
    expected = [each.detach().clone() for each in (first, second)]
    moments = [[torch.zeros_like(each), torch.zeros_like(each)] for each in expected]
    for step in range(10):
        scale = step / 8 / 0.25 if step < 2 else max((step / 8 - 1) / (0.25 - 1), 0)
        for each, value, pair in zip((first, second), expected, moments, strict=True):
            each.grad = 3 * torch.randn(each.shape, generator=draws, dtype=torch.double)
            grad = each.grad * min(1, 1 / (each.grad.norm() + 1e-6))
            pair[0] = 0.9 * pair[0] + 0.1 * grad
            pair[1] = 0.999 * pair[1] + 0.001 * grad**2
            value -= 0.01 * scale * (pair[0] / (pair[1].sqrt() + 1e-6) + 0.1 * value)
        optim.step()
        assert all(
            torch.allclose(each.detach(), value, rtol=1e-12, atol=1e-14)
            for each, value in zip((first, second), expected, strict=True)
        )


def test_a_tensor_without_gradient_keeps_its_own_clock():
    """Golden multipliers of a tensor that learns from the start, and of one from step 40 on."""
    early, late = tensors([1.0], [1.0])
    optim = BertAdam([early, late], total_steps=120, warmup=0.1)
    found = {}
    for step in range(120):
        early.grad = torch.ones_like(early)
        late.grad = torch.ones_like(late) if step >= 40 else None
        group = optim.param_groups[0]
        clocks = [optim.state[each].get('step', 0) for each in (early, late)]
        found[step] = [round(rate(clock, group), 3) for clock in clocks]
        optim.step()
    assert found[40] == [0.741, 0] and found[46] == [0.685, 0.5]
    assert found[52] == [0.63, 1.0] and found[119] == [0.009, 0.38]
    assert found[0] == [0, 0]


def test_without_total_steps_the_rate_is_the_schedulers_business():
    assert rate(10**6, dict(total_steps=None, warmup=0.1)) == 1.0


def test_state_survives_a_restart():
    def steps(weight, optim, numbers):
        for number in numbers:
            weight.grad = torch.full_like(weight, number + 1.0)
            optim.step()

    (whole,), (part,), (rest,) = tensors([1.0, 2]), tensors([1.0, 2]), tensors([0.0, 0])
    make = dict(lr=0.1, total_steps=10)
    steps(whole, BertAdam([whole], **make), range(6))
    first = BertAdam([part], **make)
    steps(part, first, range(3))
    second = BertAdam([rest], **make)
    rest.data.copy_(part)
    second.load_state_dict(first.state_dict())
    steps(rest, second, range(3, 6))
    assert torch.equal(rest, whole)


@pytest.mark.parametrize('options', [dict(lr=-1), dict(warmup=1.0), dict(total_steps=0)])
def test_wrong_options_say_so(options):
    with pytest.raises(UserError, match='BertAdam needs'):
        BertAdam(tensors([1.0]), **options)
