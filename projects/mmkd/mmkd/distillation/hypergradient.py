"""How weights of training samples move a held-out loss, through one step of the student.

The training loss is ``mean_i(a_i KD_i + b_i CE_i)`` with weights ``a_i``, ``b_i``; the step goes to
``theta'``. With ``v`` the gradient of the held-out loss at ``theta'``, ``u = -v d theta' / d g``
(entry by entry, see :mod:`step_derivative`) and ``z'_i`` the change of the logits of sample i along
``u``,

    d L_val / d a_i = -<grad_z KD_i, z'_i> / B,    d L_val / d b_i = -<grad_z CE_i, z'_i> / B,

exactly: the loss is linear in the weights, so nothing of second order is left (TGeo-KD's bilevel
problem, arXiv:2312.15112 Eqs. 5-6, which the paper leaves without a solver; the closed form is
ours). It costs one backward pass of the held-out batch and one forward pass in forward mode.

======================= ======================================================== ============
solver                  what it does                                             error
======================= ======================================================== ============
``'exact'``             the above                                                none
``'unroll'``            differentiates the step, with a graph of second order    none
``'finite_difference'`` ``z'`` from losses at ``theta +- e u``, e = epsilon/|u|  of order e^2
``'last_layer'``        only what the last linear layer does                     large
======================= ======================================================== ============

Running statistics, generators, ``.grad`` and the optimizer's state stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmdistill.core.errors import UserError
from mmdistill.core.functional_student import NetworkAt, places
from mmdistill.core.gradients import Gradients, gradients, mean_over_ranks_
from mmdistill.core.virtual_step import VirtualOptimizer
from mmkd.distillation.knowledge import (
    cross_entropy_per_sample,
    distillation_per_sample,
)
from mmkd.distillation.step_derivative import differentiable_step, scaled, step_derivative

Pair = tuple[Tensor, Tensor]
"""Values for the weight of distillation and for that of the labels, ``(B,)`` each."""
Inputs = Mapping[str, Tensor]


@dataclass
class Step:
    """One step of a student that has not been taken yet.

    Attributes:
        student: gives a result with ``logits``.
        optimizer: of the student.
        params: its trained parameters.
        grads: of the whole training loss, over all ranks, as the step uses them.
        inputs: of the training batch.
        teacher: logits of the teacher ``(B, C)``.
        labels: of the training batch ``(B,)``.
        temperature: of the distillation.
        generators: states of the generators before the student's pass, see :func:`generators`.
        head_inputs: what the last layer read in the student's pass, for ``'last_layer'`` alone.
        clip: factor by which the norm of the gradients was clipped, taken as a number.
    """

    student: nn.Module
    optimizer: torch.optim.Optimizer
    params: Sequence[Tensor]
    grads: Gradients
    inputs: Inputs
    teacher: Tensor
    labels: Tensor
    temperature: float
    generators: Mapping[str, Any]
    head_inputs: Tensor | None = None
    clip: Tensor | float = 1.0


# ------------------------------------------------------------------ parts of the formula


def loss_directions(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> Pair:
    """Gradients by the student's logits of ``t^2 KL`` and of the cross entropy, ``(B, C)`` each.

    Args:
        student: logits ``(B, C)``.
        teacher: logits ``(B, C)``.
        labels: classes ``(B,)``.
        temperature: t.
    """
    t = temperature
    distillation = t * ((student / t).softmax(-1) - (teacher / t).softmax(-1))
    target = F.one_hot(labels, student.shape[-1]).to(student)
    return distillation, student.softmax(-1) - target


def along(change: Tensor, directions: Pair) -> Pair:
    """``-<direction_i, change_i> / B`` for both losses, ``(B,)`` each."""
    kd, ce = (-(each * change).sum(-1) / len(change) for each in directions)
    return kd, ce


def logits_along(
    student: nn.Module, params: Sequence[Tensor], direction: Sequence[Tensor | None], inputs: Inputs
) -> Pair:
    """Logits of a batch and their derivative along a direction of the parameters.

    Forward mode: no graph, and no more memory than a pass without gradients. Attention uses its
    plain form, the only one with a derivative of this kind.

    Args:
        student: in the mode it is trained in; its running statistics stay.
        params: its trained parameters.
        direction: a tensor per parameter; None is 0.
        inputs: of the student.

    Raises:
        UserError: the student has an operation without a forward derivative.
    """
    tensors = {name: each.clone() for name, each in places(student, 'buffers').items()}
    changes = {id(p): each for p, each in zip(params, direction, strict=True) if each is not None}
    with torch.no_grad(), forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):
        duals = {
            id(p): forward_ad.make_dual(p.detach(), changes[id(p)])
            for p in params
            if id(p) in changes
        }
        for name, each in places(student).items():
            if id(each) in duals:
                tensors[name] = duals[id(each)]
        try:
            call = functional_call(student, tensors, kwargs=dict(inputs), tie_weights=False)
            logits = call.logits
        except NotImplementedError as error:
            raise UserError(
                f'{type(student).__name__} has an operation without a forward derivative: use '
                f"solver='finite_difference' ({str(error).splitlines()[0]})"
            ) from error
        found, change = forward_ad.unpack_dual(logits)
        return found, torch.zeros_like(found) if change is None else change


def held_out_gradient(step: Step, moved: Sequence[Tensor], inputs: Inputs, labels: Tensor) -> Pair:
    """Gradient of the cross entropy of a held-out batch at other parameters.

    Args:
        step: whose student it is.
        moved: the parameters.
        inputs: of the held-out batch.
        labels: of the held-out batch ``(B',)``.

    Returns:
        The loss, and the gradients over all ranks.
    """
    at = NetworkAt(step.student, moved, keep_buffers=True)
    loss = F.cross_entropy(at(lambda network: network(**inputs).logits), labels)
    return loss.detach(), mean_over_ranks_(gradients(loss, at.leaves))


def last_linear(student: nn.Module, outputs: int | None = None) -> nn.Linear:
    """The last linear layer of a network, which makes its logits.

    Raises:
        UserError: there is none.
    """
    found = [each for each in student.modules() if isinstance(each, nn.Linear)]
    if not found or (outputs is not None and found[-1].out_features != outputs):
        raise UserError(
            f"{type(student).__name__} does not end with a linear layer: use solver='exact'"
        )
    return found[-1]


@contextmanager
def head_inputs(student: nn.Module) -> Iterator[list[Tensor]]:
    """Notes what the last linear layer reads during a block, in the type of its weight."""
    seen: list[Tensor] = []
    handle = last_linear(student).register_forward_pre_hook(
        lambda module, args: seen.append(args[0].detach().to(module.weight.dtype))
    )
    try:
        yield seen
    finally:
        handle.remove()


# ------------------------------------------------------------------ generators


def generators(device: torch.device) -> dict[str, Any]:
    """States of torch's generators that a pass on a device draws from."""
    state: dict[str, Any] = dict(cpu=torch.get_rng_state())
    if device.type == 'cuda':
        state['cuda'] = torch.cuda.get_rng_state(device)
    return state


@contextmanager
def drawing_from(state: Mapping[str, Any], device: torch.device) -> Iterator[None]:
    """Draws what was drawn from these states before; afterwards all generators are as they were."""
    devices = [device] if device.type == 'cuda' else []
    with torch.random.fork_rng(devices):
        torch.set_rng_state(state['cpu'])
        if devices:
            torch.cuda.set_rng_state(state['cuda'], device)
        yield


# ------------------------------------------------------------------ solvers


def influence(
    step: Step,
    inputs: Inputs,
    labels: Tensor,
    solver: str = 'exact',
    epsilon: float = 1e-4,
    through_second_moment: bool = True,
) -> tuple[Pair, Tensor]:
    """Gradients of a held-out loss by the weights of the training samples.

    Args:
        step: the student's step.
        inputs: of the held-out batch.
        labels: of the held-out batch ``(B',)``.
        solver: see the module's docstring.
        epsilon: of finite differences.
        through_second_moment: see :func:`step_derivative`.

    Returns:
        Gradients by the weight of distillation and that of the labels of each sample, ``(B,)``
        each, and the held-out loss after the step. Of several ranks each has its own samples'; the
        gradient of whatever makes the weights is the mean over ranks.

    Raises:
        UserError: an unknown solver, or an optimizer or network that it cannot treat.
    """
    if solver not in SOLVERS:
        raise UserError(f'solver must be one of {sorted(SOLVERS)}, got {solver!r}')
    device = step.teacher.device
    with ExitStack() as stack:
        stack.enter_context(drawing_from(step.generators, device))
        stack.enter_context(torch.autocast(device.type, enabled=False))
        solve: Callable[..., tuple[Pair, Tensor]] = SOLVERS[solver]
        return solve(step, inputs, labels, epsilon, through_second_moment)


def _direction(
    step: Step, inputs: Inputs, labels: Tensor, second: bool
) -> tuple[list[Tensor | None], Tensor]:
    """``u`` and the held-out loss."""
    virtual = VirtualOptimizer(step.optimizer, step.params)
    moved = virtual.advance(step.grads)
    with _elsewhere(step):
        loss, found = held_out_gradient(step, moved, inputs, labels)
    return _moves(step, step.params, step.grads, found, second), loss


def _moves(
    step: Step,
    params: Sequence[Tensor],
    grads: Sequence[Tensor | None],
    found: Sequence[Tensor | None],
    second: bool,
) -> list[Tensor | None]:
    """``-v d theta' / d g`` for some parameters."""
    factors = step_derivative(step.optimizer, params, grads, second)
    return scaled([step.clip * each for each in factors], found)


@contextmanager
def _elsewhere(step: Step) -> Iterator[None]:
    """What the held-out pass draws does not count for the pass that is repeated after it."""
    device = step.teacher.device
    with drawing_from(generators(device), device):
        yield


def _exact(step: Step, inputs: Inputs, labels: Tensor, _: float, second: bool) -> Any:
    """Forward mode."""
    direction, loss = _direction(step, inputs, labels, second)
    logits, change = logits_along(step.student, step.params, direction, step.inputs)
    return along(change, loss_directions(logits, step.teacher, step.labels, step.temperature)), loss


def _finite_difference(
    step: Step, inputs: Inputs, labels: Tensor, epsilon: float, second: bool
) -> Any:
    """Central differences of the losses of the samples."""
    direction, loss = _direction(step, inputs, labels, second)
    known = [each for each in direction if each is not None]
    size = epsilon / torch.stack(torch._foreach_norm(known)).norm().clamp(min=1e-30)

    @torch.no_grad()
    def losses(sign: float) -> Pair:
        moved = [
            p if u is None else p + sign * size * u
            for p, u in zip(step.params, direction, strict=True)
        ]
        with _elsewhere(step):
            at = NetworkAt(step.student, moved, keep_buffers=True)
            logits = at(lambda network: network(**step.inputs).logits)
        return (
            distillation_per_sample(logits, step.teacher, step.temperature),
            cross_entropy_per_sample(logits, step.labels),
        )

    kd, ce = (
        (minus - plus) / (2 * size * len(plus))
        for plus, minus in zip(losses(1.0), losses(-1.0), strict=True)
    )
    return (kd, ce), loss


def _last_layer(step: Step, inputs: Inputs, labels: Tensor, _: float, second: bool) -> Any:
    """As if all but the last linear layer stood still."""
    head = last_linear(step.student, step.teacher.shape[-1])
    if step.head_inputs is None:
        raise UserError("solver='last_layer' needs Step.head_inputs")
    own = [head.weight] if head.bias is None else [head.weight, head.bias]
    place = {id(each): number for number, each in enumerate(step.params)}
    if any(id(each) not in place for each in own):
        raise UserError("solver='last_layer': the last layer is frozen; use solver='exact'")
    grads = [step.grads[place[id(each)]] for each in own]
    moved = VirtualOptimizer(step.optimizer, step.params).advance(step.grads)
    with torch.no_grad(), _elsewhere(step), head_inputs(step.student) as seen:
        at = NetworkAt(step.student, moved, keep_buffers=True)
        at(lambda network: network(**inputs))
    ends = [moved[place[id(each)]].detach().requires_grad_() for each in own]
    loss = F.cross_entropy(F.linear(seen[-1], *ends), labels)
    found = mean_over_ranks_(gradients(loss, ends))
    direction = _moves(step, own, grads, found, second)
    logits = F.linear(step.head_inputs, *[each.detach() for each in own])
    change = F.linear(step.head_inputs, *direction)
    directions = loss_directions(logits, step.teacher, step.labels, step.temperature)
    return along(change, directions), loss.detach()


def _unroll(step: Step, inputs: Inputs, labels: Tensor, _: float, second: bool) -> Any:
    """Differentiates through the step itself."""
    at = NetworkAt(step.student, list(step.params), keep_buffers=True)
    with _elsewhere(step), sdpa_kernel(SDPBackend.MATH):  # others have no second derivative
        logits = at(lambda network: network(**step.inputs).logits)
    zero = logits.detach().new_zeros(len(logits))
    weights = zero.clone().requires_grad_(), zero.clone().requires_grad_()
    kd = distillation_per_sample(logits, step.teacher, step.temperature)
    ce = cross_entropy_per_sample(logits, step.labels)
    extra = (weights[0] * kd + weights[1] * ce).mean()
    # weights of 0: the gradient stays what it is, and knows how it depends on them
    found = torch.autograd.grad(extra, at.leaves, create_graph=True, allow_unused=True)
    grads = [
        known if known is None or more is None else known.detach() + step.clip * more
        for known, more in zip(step.grads, found, strict=True)
    ]
    moved = differentiable_step(step.optimizer, step.params, grads)
    with _elsewhere(step):
        loss, held_out = held_out_gradient(step, moved, inputs, labels)
    pairs = [
        (new, v) for new, v in zip(moved, held_out, strict=True) if v is not None and new.grad_fn
    ]
    kd_grad, ce_grad = torch.autograd.grad(
        [new for new, _ in pairs], weights, [v for _, v in pairs], allow_unused=True
    )
    return (kd_grad, ce_grad), loss


SOLVERS: Mapping[str, Callable[..., tuple[Pair, Tensor]]] = {
    'exact': _exact,
    'unroll': _unroll,
    'finite_difference': _finite_difference,
    'last_layer': _last_layer,
}
"""By name."""
