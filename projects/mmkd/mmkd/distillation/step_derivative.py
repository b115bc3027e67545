"""How a step of an optimizer moves with its gradient: torch's optimizers act entry by entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmdistill.core.errors import UserError

KNOWN = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)


def step_derivative(
    optimizer: torch.optim.Optimizer,
    params: Sequence[Tensor],
    grads: Sequence[Tensor | None],
    through_second_moment: bool = True,
) -> list[Tensor | float]:
    """``-d theta' / d g`` of the step that the optimizer would take, entry by entry.

    SGD: the learning rate, with Nesterov momentum ``lr (1 + momentum)``; weight decay adds nothing.
    Adam and AdamW: ``lr / c1 [(1 - b1) / (s + eps) - m' (1 - b2) g / (c2 s (s + eps)^2)]`` with the
    moments after the step, ``s = sqrt(v' / c2)`` and bias corrections ``c1``, ``c2``.

    Args:
        optimizer: SGD, Adam or AdamW of torch; only read.
        params: some of its parameters.
        grads: of the parameters, as the step uses them; None where one has none.
        through_second_moment: Adam's second moment moves with the gradient too; False leaves that
            part out (it is then positive everywhere).

    Returns:
        A number or a tensor of the parameter's shape each; 0.0 where there is no gradient.

    Raises:
        UserError: another optimizer.
    """
    if type(optimizer) not in KNOWN:
        raise UserError(
            f'the derivative of a step of {type(optimizer).__name__} is not known; it is for '
            f'{", ".join(kind.__name__ for kind in KNOWN)}'
        )
    group_of = {id(p): group for group in optimizer.param_groups for p in group['params']}
    found: list[Tensor | float] = []
    for param, grad in zip(params, grads, strict=True):
        if grad is None:
            found.append(0.0)
            continue
        group, state = group_of[id(param)], optimizer.state.get(param, {})
        sign = -1.0 if group['maximize'] else 1.0
        if isinstance(optimizer, torch.optim.SGD):
            found.append(sign * _sgd(group, state))
        else:
            decoupled = group.get(
                'decoupled_weight_decay', isinstance(optimizer, torch.optim.AdamW)
            )
            used = sign * grad
            if group['weight_decay'] and not decoupled:
                used = used + group['weight_decay'] * param.detach()
            found.append(sign * _adam(group, state, used, through_second_moment))
    return found


def _sgd(group: Mapping[str, Any], state: Mapping[str, Any]) -> float:
    """A number: the same for all entries."""
    momentum = group['momentum']
    first = state.get('momentum_buffer') is None
    kept = 1.0 if first or not momentum else 1 - group['dampening']
    return group['lr'] * (1 + momentum * kept if momentum and group['nesterov'] else kept)


def _adam(
    group: Mapping[str, Any], state: Mapping[str, Any], grad: Tensor, through_second_moment: bool
) -> Tensor:
    """See :func:`step_derivative`."""
    beta1, beta2 = group['betas']
    step = state.get('step', 0.0)
    step = (step.double() if isinstance(step, Tensor) else step) + 1
    bias1, bias2 = (1 - beta**step for beta in (beta1, beta2))
    if isinstance(bias1, Tensor) and bias1.device.type == 'cpu':
        bias1, bias2 = bias1.item(), bias2.item()
    second = grad.square() * (1 - beta2)
    if 'exp_avg_sq' in state:
        second = second.add_(state['exp_avg_sq'], alpha=beta2)
    spread = second.div_(bias2).sqrt_()
    least = spread + group['eps']
    found = (1 - beta1) / least
    if through_second_moment:
        first = grad * (1 - beta1)
        if 'exp_avg' in state:
            first = first.add_(state['exp_avg'], alpha=beta1)
        smallest = torch.finfo(grad.dtype).tiny
        ratio = grad / spread.clamp(min=smallest) * ((1 - beta2) / bias2)  # in [-1, 1] at most
        found = found - first * ratio / least.square()
    return (found * (group['lr'] / bias1)).to(grad.dtype)


def scaled(
    factors: Sequence[Tensor | float], values: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """Products of factors and tensors, one per parameter; None stays."""
    return [
        None if value is None else value * factor
        for factor, value in zip(factors, values, strict=True)
    ]


def differentiable_step(
    optimizer: torch.optim.Optimizer, params: Sequence[Tensor], grads: Sequence[Tensor | None]
) -> list[Tensor]:
    """The parameters after a step, as a function of the gradients that can be differentiated.

    What :func:`step_derivative` knows in closed form; written with plain operations, as a check.

    Args:
        optimizer: see :func:`step_derivative`.
        params: some of its parameters.
        grads: of the parameters, with their graph.
    """
    group_of = {id(p): group for group in optimizer.param_groups for p in group['params']}
    moved = []
    for param, grad in zip(params, grads, strict=True):
        if grad is None:
            moved.append(param.detach())
            continue
        group, state, here = group_of[id(param)], optimizer.state.get(param, {}), param.detach()
        lr, decay = group['lr'], group['weight_decay']
        used = -grad if group['maximize'] else grad
        if isinstance(optimizer, torch.optim.SGD):
            used = used + decay * here
            if momentum := group['momentum']:
                old = state.get('momentum_buffer')
                kept = used if old is None else momentum * old + (1 - group['dampening']) * used
                used = used + momentum * kept if group['nesterov'] else kept
            moved.append(here - lr * used)
            continue
        if isinstance(optimizer, torch.optim.AdamW):
            here = here * (1 - lr * decay)
        else:
            used = used + decay * here
        beta1, beta2 = group['betas']
        step = float(state.get('step', 0.0)) + 1
        first = beta1 * state.get('exp_avg', torch.zeros_like(here)) + (1 - beta1) * used
        second = beta2 * state.get('exp_avg_sq', torch.zeros_like(here)) + (1 - beta2) * used**2
        # the root has no slope at 0, where the first moment is 0 too
        smallest = torch.finfo(second.dtype).tiny
        spread = (second / (1 - beta2**step)).clamp(min=smallest).sqrt() + group['eps']
        moved.append(here - lr * (first / (1 - beta1**step)) / spread)
    return moved
