"""Gradients as values: taken without touching ``.grad``, averaged over ranks, clipped, unscaled."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.optim import OptimWrapper
from torch import Tensor

from mmdistill.core.ema import finite_numbers

Gradients = list[Tensor | None]


def gradients(loss: Tensor, params: Sequence[Tensor], keep_graph: bool = False) -> Gradients:
    """Gradients of a loss, laid out in memory like the parameters; None where it has none.

    Args:
        loss: scalar.
        params: leaves.
        keep_graph: the graph is needed again.
    """
    if not loss.requires_grad:
        return [None] * len(params)
    found = torch.autograd.grad(loss, list(params), retain_graph=keep_graph, allow_unused=True)
    return [_like(grad, param) for grad, param in zip(found, params, strict=True)]


def _like(grad: Tensor | None, param: Tensor) -> Tensor | None:
    """As ``.grad`` would hold it: kernels that are not contiguous round differently."""
    if grad is None or grad.is_sparse or grad.stride() == param.stride():
        return grad
    return torch.empty_like(param).copy_(grad)


@torch.no_grad()
def add_(into: Gradients, other: Sequence[Tensor | None]) -> Gradients:
    """Adds gradients in place, ``into + other``; where one has none the other's are taken.

    Args:
        into: changed and returned.
        other: not changed.
    """
    pairs = enumerate(zip(into, other, strict=True))
    # not `None in pair`: that compares tensors with None, which raises and catches for each
    both = [index for index, (a, b) in pairs if a is not None and b is not None]
    if both:
        torch._foreach_add_([into[i] for i in both], [other[i] for i in both])
    for index, grad in enumerate(other):
        if into[index] is None:
            into[index] = None if grad is None else grad.clone()
    return into


@torch.no_grad()
def mean_over_ranks_(grads: Gradients) -> Gradients:
    """Averages gradients over all ranks in place, all of a type in one message.

    Every rank has to call it, with gradients of the same parameters.

    Args:
        grads: None where a parameter has none, which must be so on all ranks.
    """
    if get_world_size() == 1:
        return grads
    known = [each for each in grads if each is not None]
    groups: dict[torch.dtype, list[Tensor]] = {}
    for each in known:
        groups.setdefault(each.dtype, []).append(each)
    for group in groups.values():
        flat = torch.cat([each.reshape(-1) for each in group])
        all_reduce(flat, op='mean')
        parts = flat.split([each.numel() for each in group])
        for each, part in zip(group, parts, strict=True):
            each.copy_(part.view_as(each))
    return grads


@torch.no_grad()
def clipped(
    grads: Gradients, clip: Callable[..., Any] | None, options: Mapping[str, Any] | None
) -> Gradients:
    """Gradients clipped as the real step would clip them; the given ones stay.

    Args:
        grads: to be clipped.
        clip: ``torch.nn.utils.clip_grad_norm_`` or another function of parameters, mmengine's
            ``OptimWrapper.clip_func``.
        options: its arguments; empty or None: nothing is clipped.
    """
    if not options:
        return grads
    stand_ins = [None if each is None else torch.empty_like(each) for each in grads]
    for stand_in, grad in zip(stand_ins, grads, strict=True):
        if stand_in is not None:
            stand_in.grad = grad.clone()
    if known := [each for each in stand_ins if each is not None]:
        clip(known, **options)
    return [None if each is None else each.grad for each in stand_ins]


@torch.no_grad()
def all_finite(grads: Sequence[Tensor | None]) -> Tensor:
    """Scalar bool tensor on the gradients' device: no NaN and no infinity."""
    known = [each for each in grads if each is not None and each.numel()]
    return finite_numbers(known) if known else torch.tensor(True)


def loss_scale(optim_wrapper: OptimWrapper, like: Tensor) -> Tensor | None:
    """Scalar tensor by which a loss scaler multiplies losses; None without one.

    Args:
        optim_wrapper: mmengine's.
        like: a tensor on the device of the training.
    """
    scaler = getattr(optim_wrapper, 'loss_scaler', None)
    if scaler is None or not scaler.is_enabled():
        return None
    return scaler.scale(torch.ones((), device=like.device))
