"""The optimizer of the first BERT, for results that can be compared with published ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from mmdistill.core.errors import UserError
from mmkd.registry import OPTIMIZERS


@OPTIMIZERS.register_module()
class BertAdam(torch.optim.Optimizer):
    """Adam with decoupled decay, without bias correction, as TernaryBERT and TI trained.

    It differs from AdamW in that the first update of a weight is about 3.16 learning rates, that
    gradients are clipped tensor by tensor, and that warm-up and decay go by the updates of each
    tensor: one that has no gradient for a while begins its own warm-up later.

    Args:
        params: as in torch.
        lr: peak learning rate.
        warmup: share of ``total_steps`` in which the rate rises from 0.
        total_steps: updates until the rate is 0; None: the rate is constant, for schedulers.
        betas: of the moments.
        eps: added to the root of the second moment.
        weight_decay: decoupled.
        max_grad_norm: of a tensor; 0: no clipping.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-5,
        warmup: float = 0.1,
        total_steps: int | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        max_grad_norm: float = 1.0,
    ) -> None:
        if lr < 0 or not 0 <= warmup < 1 or (total_steps is not None and total_steps < 1):
            raise UserError(
                'BertAdam needs lr >= 0, 0 <= warmup < 1 and total_steps >= 1, got '
                f'lr={lr}, warmup={warmup}, total_steps={total_steps}'
            )
        defaults = dict(lr=lr, warmup=warmup, total_steps=total_steps, betas=tuple(betas))
        defaults |= dict(eps=eps, weight_decay=weight_decay, max_grad_norm=max_grad_norm)
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of all tensors that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [each for each in group['params'] if each.grad is not None]
            if params:
                self._update(params, group)
        return loss

    def _update(self, params: list[Tensor], group: dict[str, Any]) -> None:
        """All tensors of a group at once."""
        for each in params:
            if not self.state[each]:
                zeros = torch.zeros_like(each), torch.zeros_like(each)
                self.state[each].update(step=0, exp_avg=zeros[0], exp_avg_sq=zeros[1])
        states = [self.state[each] for each in params]
        grads = [each.grad for each in params]
        if group['max_grad_norm'] > 0:
            norms = torch._foreach_norm(grads)
            scales = [(group['max_grad_norm'] / (norm + 1e-6)).clamp(max=1.0) for norm in norms]
            grads = torch._foreach_mul(grads, scales)
        first, second = ([each[k] for each in states] for k in ('exp_avg', 'exp_avg_sq'))
        beta1, beta2 = group['betas']
        torch._foreach_mul_(first, beta1)
        torch._foreach_add_(first, grads, alpha=1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, grads, grads, value=1 - beta2)
        roots = torch._foreach_sqrt(second)
        torch._foreach_add_(roots, group['eps'])
        updates = torch._foreach_div(first, roots)
        if group['weight_decay']:
            torch._foreach_add_(updates, params, alpha=group['weight_decay'])
        torch._foreach_mul_(updates, [-group['lr'] * rate(each['step'], group) for each in states])
        torch._foreach_add_(params, updates)
        for each in states:
            each['step'] += 1


def rate(step: int, group: dict[str, Any]) -> float:
    """Share of the peak learning rate: up over the warm-up, then down to 0.

    Args:
        step: updates that the tensor has had.
        group: with ``total_steps`` and ``warmup``.
    """
    if group['total_steps'] is None:
        return 1.0
    progress = step / group['total_steps']
    if progress < group['warmup']:
        return progress / group['warmup']
    return max((progress - 1) / (group['warmup'] - 1), 0.0)
