"""The derivative of a step: equal to autograd's through the step, which equals torch's own step."""

import copy

import pytest
import torch
from torch import nn

from mmdistill.core.errors import UserError
from mmdistill.testing import state_differences
from mmkd.distillation.step_derivative import differentiable_step, scaled, step_derivative

SGD, ADAM, ADAMW = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW
CASES = dict(
    sgd=(SGD, dict(lr=0.1)),
    sgd_decay=(SGD, dict(lr=0.1, weight_decay=0.3)),
    sgd_maximize=(SGD, dict(lr=0.1, momentum=0.8, weight_decay=0.3, maximize=True)),
    momentum=(SGD, dict(lr=0.1, momentum=0.8, weight_decay=0.3)),
    dampening=(SGD, dict(lr=0.1, momentum=0.8, dampening=0.4)),
    nesterov=(SGD, dict(lr=0.1, momentum=0.8, nesterov=True, weight_decay=0.3)),
    adam=(ADAM, dict(lr=0.1, betas=(0.8, 0.9), eps=1e-3)),
    adam_usual=(ADAM, dict(lr=0.1)),
    adam_decay=(ADAM, dict(lr=0.1, betas=(0.8, 0.9), weight_decay=0.3)),
    adam_maximize=(ADAM, dict(lr=0.1, weight_decay=0.3, maximize=True)),
    adamw=(ADAMW, dict(lr=0.1, betas=(0.8, 0.9), weight_decay=0.3)),
    adamw_maximize=(ADAMW, dict(lr=0.1, weight_decay=0.3, maximize=True)),
)


def started(kind, options, steps):
    """Parameters in 64 bits, their optimizer after some steps, and the next gradients."""
    torch.manual_seed(0)
    params = [nn.Parameter(torch.randn(3, 4).double()), nn.Parameter(torch.randn(5).double())]
    optimizer = kind(params, **options)
    for _ in range(steps):
        for each in params:
            each.grad = torch.randn_like(each)
        optimizer.step()
    optimizer.zero_grad()
    return params, optimizer, [torch.randn_like(each) for each in params]


def by_autograd(optimizer, params, grads):
    """Derivative of the step by its gradients, entry by entry (no entry moves another)."""
    leaves = [each.clone().requires_grad_() for each in grads]
    moved = differentiable_step(optimizer, params, leaves)
    return [-each for each in torch.autograd.grad([each.sum() for each in moved], leaves)]


@pytest.mark.parametrize('steps', [0, 1, 4])
@pytest.mark.parametrize('name', CASES)
def test_closed_form_autograd_and_the_real_step(name, steps):
    params, optimizer, grads = started(*CASES[name], steps)
    before = copy.deepcopy((optimizer.state_dict(), [each.detach() for each in params]))
    found = step_derivative(optimizer, params, grads)
    for factor, expected in zip(found, by_autograd(optimizer, params, grads), strict=True):
        factor = torch.as_tensor(factor, dtype=torch.float64).expand_as(expected)
        assert torch.allclose(factor, expected, rtol=1e-9, atol=1e-14)
        assert expected.abs().max() > 0
    moved = differentiable_step(optimizer, params, grads)
    after = (optimizer.state_dict(), [each.detach() for each in params])
    assert state_differences(before, after) == []
    assert all(each.grad is None for each in params)
    for param, grad in zip(params, grads, strict=True):
        param.grad = grad
    optimizer.step()
    for param, expected in zip(moved, params, strict=True):
        assert torch.allclose(param, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize('name', CASES)
def test_equal_to_differences_of_real_steps(name):
    params, optimizer, grads = started(*CASES[name], 2)
    found = step_derivative(optimizer, params, grads)

    def stepped(shift):
        ours, theirs = copy.deepcopy((params, optimizer.state_dict()))
        twin = type(optimizer)(ours, **CASES[name][1])
        twin.load_state_dict(theirs)
        for param, grad in zip(ours, grads, strict=True):
            param.grad = grad + shift
        twin.step()
        return [each.detach() for each in ours]

    for factor, low, high in zip(found, stepped(-1e-5), stepped(1e-5), strict=True):
        expected = (low - high) / 2e-5
        factor = torch.as_tensor(factor, dtype=torch.float64).expand_as(expected)
        assert torch.allclose(factor, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    ('options', 'steps', 'factor'),
    [
        (dict(), 0, 1.0),
        (dict(momentum=0.8), 3, 1.0),
        (dict(momentum=0.8, dampening=0.4), 0, 1.0),
        (dict(momentum=0.8, dampening=0.4), 3, 0.6),
        (dict(momentum=0.8, nesterov=True), 0, 1.8),
        (dict(momentum=0.8, nesterov=True, weight_decay=0.3), 3, 1.8),
        (dict(momentum=0.8, maximize=True), 3, -1.0),
    ],
)
def test_sgd_by_hand(options, steps, factor):
    params, optimizer, grads = started(SGD, dict(lr=0.1, **options), steps)
    assert step_derivative(optimizer, params, grads) == pytest.approx([0.1 * factor] * 2)


@pytest.mark.parametrize('steps', [0, 3])
@pytest.mark.parametrize('kind', [ADAM, ADAMW])
def test_without_the_second_moments_own_change(kind, steps):
    params, optimizer, grads = started(kind, dict(lr=0.1, betas=(0.8, 0.9), eps=1e-3), steps)
    found = step_derivative(optimizer, params, grads, through_second_moment=False)
    for factor, param, grad in zip(found, params, grads, strict=True):
        old = optimizer.state.get(param, {}).get('exp_avg_sq', torch.zeros_like(param))
        spread = ((0.9 * old + 0.1 * grad**2) / (1 - 0.9 ** (steps + 1))).sqrt()
        expected = 0.1 * 0.2 / (1 - 0.8 ** (steps + 1)) / (spread + 1e-3)
        assert torch.allclose(factor, expected, rtol=1e-12) and (factor > 0).all()
    whole = step_derivative(optimizer, params, grads)
    assert not torch.allclose(whole[0], found[0], rtol=1e-2)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('kind', [ADAM, ADAMW])
def test_entries_without_any_gradient_so_far(kind, dtype):
    param = nn.Parameter(torch.ones(4, dtype=dtype))
    optimizer = kind([param], lr=0.1)
    grads = [torch.tensor([0.0, 1.0, 0.0, -2.0], dtype=dtype)]
    for steps in (0, 1):
        # without a gradient the step still is lr (1 - b1) / c1 / eps g at first order
        slope = 0.1 * 0.1 / (1 - 0.9 ** (steps + 1)) / 1e-8
        for second in (True, False):
            found = step_derivative(optimizer, [param], grads, second)[0]
            assert found.isfinite().all() and found.dtype == dtype
            assert found[0].item() == pytest.approx(slope, rel=1e-5)
        leaf = grads[0].clone().requires_grad_()
        moved = differentiable_step(optimizer, [param], [leaf])[0]
        by_step = -torch.autograd.grad(moved.sum(), leaf)[0]
        assert by_step.isfinite().all()
        whole = step_derivative(optimizer, [param], grads)[0]
        assert torch.allclose(whole, by_step, rtol=1e-4, atol=1e-6)
        param.grad = grads[0].clone()
        optimizer.step()


def test_parameters_of_several_groups_and_without_a_gradient():
    params = [nn.Parameter(torch.ones(2)) for _ in range(3)]
    groups = [dict(params=params[:1], lr=0.5), dict(params=params[1:], momentum=0.5, nesterov=True)]
    optimizer = SGD(groups, lr=0.1)
    grads = [torch.ones(2), None, torch.ones(2)]
    # asked for in another order than the optimizer's, and not for all
    found = step_derivative(optimizer, params[::-1], grads[::-1])
    assert found == pytest.approx([0.15, 0.0, 0.5])
    assert step_derivative(optimizer, params[2:], grads[2:]) == pytest.approx([0.15])
    moved = differentiable_step(optimizer, params, grads)
    assert torch.equal(moved[1], params[1]) and not moved[1].requires_grad


def test_products():
    values = [torch.tensor([1.0, 2]), None, torch.tensor([3.0])]
    found = scaled([torch.tensor([2.0, 3]), 4.0, 0.5], values)
    assert found[1] is None
    assert (found[0].tolist(), found[2].tolist()) == ([2, 6], [1.5])


def test_other_optimizers_are_refused():
    class Own(torch.optim.SGD):
        """May step otherwise."""

    param = nn.Parameter(torch.ones(2))
    for kind in (torch.optim.RMSprop, Own):
        message = rf'a step of {kind.__name__} is not known; it is for SGD, Adam, AdamW'
        with pytest.raises(UserError, match=message):
            step_derivative(kind([param], lr=0.1), [param], [torch.ones(2)])
