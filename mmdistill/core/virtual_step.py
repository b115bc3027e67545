"""The next steps of an optimizer without taking them.

Learning from the future (FST, arXiv:2209.06993) asks where the student would be after some more
optimizer steps. Here that is a function of parameters, gradients and optimizer state: nothing is
stepped and nothing has to be put back. The arithmetic is that of ``torch.optim``, operation by
operation, so on the CPU the result is that of the real step bit for bit (fused kernels
round differently in the last place).

A single step is a stream of chunks and needs no memory but one chunk: whoever only wants an
average of the future parameters can consume it at once. A series of steps holds its parameters
and optimizer state in tensors of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmdistill.core.errors import UserError

CHUNK = 1 << 20
"""Elements that a chunk holds at most, unless one parameter is larger."""
REFUSED = ('amsgrad', 'capturable', 'differentiable')
"""Options of torch's optimizers that change the step and are not built here."""

Gradients = Sequence[Tensor | None]


@dataclass(frozen=True)
class Point:
    """Where some parameters are, with their part of the optimizer's state.

    Attributes:
        params: tensors of any shape.
        state: tensors of the rule by name, one list each; None where there is none yet.
        steps: steps that each parameter has made: a number, or a tensor where torch keeps it on
            the device.
    """

    params: list[Tensor]
    state: dict[str, list[Tensor | None]]
    steps: list[float | Tensor]


def adam_step(point: Point, grads: list[Tensor], group: Mapping[str, Any]) -> Point:
    """One step of Adam (arXiv:1412.6980) or AdamW (arXiv:1711.05101) out of place.

    Args:
        point: state ``exp_avg`` and ``exp_avg_sq``.
        grads: of the parameters.
        group: the optimizer's settings.
    """
    lr, decay, (beta1, beta2) = group['lr'], group['weight_decay'], group['betas']
    params = point.params
    if decay and group['decoupled_weight_decay']:
        params = torch._foreach_mul(params, 1 - lr * decay)
    elif decay:
        grads = torch._foreach_add(grads, params, alpha=decay)
    first, second = ([_or_zeros(*each) for each in zip(point.state[name], params, strict=True)]
                     for name in ('exp_avg', 'exp_avg_sq'))  # fmt: skip
    steps = [step + 1 for step in point.steps]
    first = torch._foreach_lerp(first, grads, 1 - beta1)
    second = torch._foreach_mul(second, beta2)
    torch._foreach_addcmul_(second, grads, grads, value=1 - beta2)
    spread = torch._foreach_sqrt(second)
    torch._foreach_div_(spread, [(1 - beta2**step) ** 0.5 for step in steps])
    torch._foreach_add_(spread, group['eps'])
    sizes = [-(lr / (1 - beta1**step)) for step in steps]
    if any(isinstance(size, Tensor) for size in sizes):
        moves = torch._foreach_div(first, spread)
        torch._foreach_mul_(moves, sizes)
        params = torch._foreach_add(params, moves)
    else:
        params = torch._foreach_addcdiv(params, first, spread, sizes)
    return Point(params, {'exp_avg': first, 'exp_avg_sq': second}, steps)


def sgd_step(point: Point, grads: list[Tensor], group: Mapping[str, Any]) -> Point:
    """One step of SGD out of place, with momentum, Nesterov momentum and dampening as in torch.

    Args:
        point: state ``momentum_buffer``.
        grads: of the parameters.
        group: the optimizer's settings.
    """
    momentum, keep = group['momentum'], 1 - group['dampening']
    if group['weight_decay']:
        grads = torch._foreach_add(grads, point.params, alpha=group['weight_decay'])
    buffers = point.state['momentum_buffer']
    if momentum:
        buffers = [
            grad.clone() if old is None else old.mul(momentum).add_(grad, alpha=keep)
            for old, grad in zip(buffers, grads, strict=True)
        ]
        if group['nesterov']:
            grads = torch._foreach_add(grads, buffers, alpha=momentum)
        else:
            grads = buffers
    params = torch._foreach_add(point.params, grads, alpha=-group['lr'])
    return Point(params, {'momentum_buffer': buffers}, point.steps)


RULES = {
    torch.optim.SGD: (sgd_step, ('momentum_buffer',)),
    torch.optim.Adam: (adam_step, ('exp_avg', 'exp_avg_sq')),
    torch.optim.AdamW: (adam_step, ('exp_avg', 'exp_avg_sq')),
}
"""The step and the names of its state by optimizer; subclasses may differ and are refused."""


class VirtualOptimizer:
    """Looks ahead along an optimizer.

    Reads the optimizer anew in every call (learning rates, state) and never writes to it.

    Args:
        optimizer: ``SGD``, ``Adam`` or ``AdamW`` of torch.
        params: the parameters to look ahead for, all of the optimizer's when left out. Gradients
            and results come in this order.

    Raises:
        UserError: another optimizer, an option that is not built, or a parameter that the
            optimizer does not have.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, params: Sequence[Tensor] | None = None
    ) -> None:
        if type(optimizer) not in RULES:
            known = ', '.join(kind.__name__ for kind in RULES)
            raise UserError(
                f'looking ahead along {type(optimizer).__name__} is not possible: the optimizers '
                f'are {known}'
            )
        self.optimizer = optimizer
        self.rule, self.names = RULES[type(optimizer)]
        # older versions of torch do not write it into the group
        self._defaults = {'decoupled_weight_decay': type(optimizer) is torch.optim.AdamW}
        for group in optimizer.param_groups:
            _check_group(type(optimizer).__name__, group)
        owner = {id(p): i for i, g in enumerate(optimizer.param_groups) for p in g['params']}
        if params is None:
            params = [each for group in optimizer.param_groups for each in group['params']]
        self.params = list(params)
        if any(id(each) not in owner for each in self.params):
            raise UserError('a parameter to look ahead for is not in the optimizer')
        self._group_of = [owner[id(each)] for each in self.params]
        self._ahead: Point | None = None

    # ------------------------------------------------------------------ one step, in chunks

    @torch.no_grad()
    def stream(
        self, grads: Gradients, finite: Tensor | None = None
    ) -> Iterator[tuple[list[int], list[Tensor]]]:
        """Where the parameters are after one step from here, chunk by chunk.

        Args:
            grads: one per parameter; None leaves it where it is, as in torch.
            finite: scalar bool tensor; False leaves all where they are, without asking the device.

        Yields:
            Indices of parameters, and new tensors. All parameters come once.
        """
        for indices, old, new in self._steps(self._here, grads):
            yield indices, _chosen(finite, new.params, old.params)

    # ------------------------------------------------------------------ several steps

    @torch.no_grad()
    def advance(self, grads: Gradients, finite: Tensor | None = None) -> list[Tensor]:
        """One more step of a series that starts at the optimizer's present state.

        Args:
            grads: one per parameter, taken at the point that the series has reached.
            finite: see :meth:`stream`.

        Returns:
            All parameters at the new point, valid until the next call. They are not the
            optimizer's, except where a parameter had no gradient or nothing was finite.
        """
        if self._ahead is None:
            self._ahead = self._here(range(len(self.params)))
        whole = self._ahead
        for indices, old, new in self._steps(self._there, grads):
            point = _where(finite, new, old)
            for place, index in enumerate(indices):
                whole.params[index] = point.params[place]
                whole.steps[index] = point.steps[place]
                for name in self.names:
                    whole.state[name][index] = point.state[name][place]
        return list(whole.params)

    def restart(self) -> None:
        """The next series starts at the optimizer's state again; frees the memory of this one."""
        self._ahead = None

    # ------------------------------------------------------------------ inside

    def _here(self, indices: Sequence[int]) -> Point:
        """The optimizer's own point."""
        params = [self.params[index] for index in indices]
        kept = [self.optimizer.state.get(each, {}) for each in params]
        state = {name: [each.get(name) for each in kept] for name in self.names}
        return Point([each.detach() for each in params], state, [_steps_of(each) for each in kept])

    def _there(self, indices: Sequence[int]) -> Point:
        """The point that the series has reached."""
        whole = self._ahead
        state = {name: [part[index] for index in indices] for name, part in whole.state.items()}
        return Point(
            [whole.params[index] for index in indices],
            state,
            [whole.steps[index] for index in indices],
        )

    def _steps(self, point_of: Any, grads: Gradients) -> Iterator[tuple[list[int], Point, Point]]:
        """Points before and after a step by chunk; the same one for parameters without gradient."""
        if len(grads) != len(self.params):
            raise ValueError(f'{len(grads)} gradients for {len(self.params)} parameters')
        for number, indices in self._chunks(grads):
            old = new = point_of(indices)
            if number is not None:
                group = {**self._defaults, **self.optimizer.param_groups[number]}
                chosen = [grads[index].detach() for index in indices]
                if group['maximize']:
                    chosen = torch._foreach_neg(chosen)
                new = self.rule(old, chosen, group)
            yield indices, old, new

    def _chunks(self, grads: Gradients) -> Iterator[tuple[int | None, list[int]]]:
        """Parameters of one group, device and type each, in chunks; None: without gradient."""
        rows: dict[tuple, list[int]] = {}
        for index, (grad, param) in enumerate(zip(grads, self.params, strict=True)):
            key = (None,) if grad is None else (self._group_of[index], param.device, param.dtype)
            rows.setdefault(key, []).append(index)
        for (number, *_), indices in rows.items():
            chunk, size = [], 0
            for index in indices:
                if chunk and size + self.params[index].numel() > CHUNK:
                    yield number, chunk
                    chunk, size = [], 0
                chunk.append(index)
                size += self.params[index].numel()
            yield number, chunk


def _check_group(kind: str, group: Mapping[str, Any]) -> None:
    """Refuses settings that would make another step than torch's."""
    found = [name for name in REFUSED if group.get(name)]
    found += [name for name in ('lr', 'betas', 'momentum') if _has_tensor(group.get(name))]
    if found:
        raise UserError(
            f'looking ahead along {kind} with {found[0]}={group[found[0]]!r} is not possible: set '
            'it to ' + ('False' if found[0] in REFUSED else 'a plain number')
        )


def _has_tensor(value: Any) -> bool:
    """A tensor, or some values of which one is a tensor."""
    return any(
        isinstance(each, Tensor) for each in (value if isinstance(value, tuple) else [value])
    )


def _or_zeros(value: Tensor | None, like: Tensor) -> Tensor:
    """The value, or zeros where there is none yet."""
    return torch.zeros_like(like) if value is None else value


def _steps_of(state: Mapping[str, Any]) -> float | Tensor:
    """Steps made: a number where reading it does not wait for a device."""
    step = state.get('step', 0.0)
    if not isinstance(step, Tensor):
        return step
    # double: 1 - 0.999 ** 2 loses three digits in single precision
    return step.item() if step.device.type == 'cpu' else step.double()


def _known(finite: Tensor | None) -> bool | None:
    """Whether to step; None where only the device knows, and asking would wait for it."""
    if finite is None:
        return True
    return bool(finite) if finite.device.type == 'cpu' else None


def _chosen(
    finite: Tensor | None, new: list[Tensor | None], old: list[Tensor | None]
) -> list[Tensor | None]:
    """The new tensors where ``finite`` holds, else the old ones."""
    if (known := _known(finite)) is not None:
        return new if known else old
    pairs = zip(new, old, strict=True)
    return [a if a is None else torch.where(finite, a, _or_zeros(b, a)) for a, b in pairs]


def _where(finite: Tensor | None, new: Point, old: Point) -> Point:
    """The new point where ``finite`` holds, else the old one."""
    if (known := _known(finite)) is not None:
        return new if known else old
    state = {name: _chosen(finite, part, old.state[name]) for name, part in new.state.items()}
    flag = finite.double()
    steps = [b + (a - b) * flag for a, b in zip(new.steps, old.steps, strict=True)]
    return Point(_chosen(finite, new.params, old.params), state, steps)
