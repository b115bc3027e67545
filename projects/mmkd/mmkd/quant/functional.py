"""Quantizers as functions of tensors, with straight-through gradients.

Weights become ternary (TWN, arXiv:1605.04711), binary or integers; activations become integers on
a symmetric grid whose scale is taken from each tensor (TernaryBERT, arXiv:2009.12812). All clip
first, as Teacher Intervention's code does: values at or beyond ``clip`` get no gradient.

A quantizer of weights has a part without gradient that gives ``codes`` (small integers, in the
dtype of the weights) and ``scale``, so that ``codes * scale`` is what the network computes with and
what :mod:`mmkd.quant.pack` writes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Codes = tuple[Tensor, Tensor]
"""Codes of the shape of the weights, and scales that broadcast with them."""
Bounds = tuple[float, float]
"""Smallest and largest value of a tensor, where they are known."""


def _within(bounds: Bounds | None, clip: float) -> bool:
    """Whether it is known that no value reaches the clip."""
    return bounds is not None and -clip < bounds[0] and bounds[1] < clip


def _others(weight: Tensor, axis: int | None) -> tuple[int, ...]:
    """Dimensions that share a scale: all, or all but one."""
    if axis is None:
        return tuple(range(weight.dim()))
    return tuple(dim for dim in range(weight.dim()) if dim != axis % weight.dim())


def ternary_codes(
    weight: Tensor,
    axis: int | None = None,
    factor: float = 0.7,
    clip: float = 2.5,
    bounds: Bounds | None = None,
) -> Codes:
    """Ternary weight networks: ``scale sign(w)`` where ``|w| > factor mean|w|``, else 0.

    Args:
        weight: any shape.
        axis: dimension with a scale per index; None: one scale.
        factor: of the mean magnitude; a weight of exactly that size becomes 0.
        clip: weights count as at most this large.
        bounds: of the weights; known ones save passes over memory, the result is the same.

    Returns:
        Codes in {-1, 0, 1}, and the mean magnitude of what is not 0 as scale; 0 where all is 0.
    """
    dims = _others(weight, axis)
    size = weight.abs()
    if not _within(bounds, clip):
        size.clamp_(max=clip)
    # 1 where the difference is above 0, which it is exactly where the size is above the threshold
    kept = torch.sub(size, factor * size.mean(dims, keepdim=True)).sign_().clamp_(min=0)
    count = kept.sum(dims, keepdim=True).clamp_(min=1)
    scale = size.mul_(kept).sum(dims, keepdim=True).div_(count)
    return torch.copysign(kept, weight, out=kept), scale


def binary_codes(
    weight: Tensor, axis: int | None = None, clip: float = 2.5, bounds: Bounds | None = None
) -> Codes:
    """Binary weights, ``scale sign(w)`` with the mean magnitude as scale (arXiv:1603.05279).

    Args:
        weight: any shape.
        axis: dimension with a scale per index; None: one scale.
        clip: weights count as at most this large.
        bounds: see :func:`ternary_codes`.

    Returns:
        Codes in {-1, 1} (0 counts as positive) and scales.
    """
    size = weight.abs()
    if not _within(bounds, clip):
        size.clamp_(max=clip)
    scale = size.mean(_others(weight, axis), keepdim=True)
    return torch.where(weight < 0, -1.0, 1.0).to(weight), scale


def integer_codes(
    weight: Tensor,
    bits: int = 8,
    axis: int | None = None,
    clip: float = 2.5,
    bounds: Bounds | None = None,
) -> Codes:
    """Integers on a symmetric grid up to the largest magnitude, rounded half to even.

    Args:
        weight: any shape; activations too.
        bits: of the codes, at least 2; ``-(2^(bits-1) - 1)`` is the smallest.
        axis: dimension with a scale per index; None: one scale.
        clip: values count as at most this large.
        bounds: see :func:`ternary_codes`.

    Returns:
        Codes and scales; where all is 0 both are 0.
    """
    top = 2 ** (bits - 1) - 1
    if axis is None and bounds is not None:
        one = min(max(-bounds[0], bounds[1]), clip)
        largest = torch.full([1] * weight.dim(), one, dtype=weight.dtype, device=weight.device)
    elif axis is None:
        low, high = weight.aminmax()
        largest = torch.maximum(-low, high).clamp_(max=clip).view([1] * weight.dim())
    else:
        largest = weight.abs().amax(_others(weight, axis), keepdim=True).clamp_(max=clip)
    # x * (top / max), then divided by it again: the published order of operations
    steps = top / largest.clamp(min=torch.finfo(weight.dtype).tiny * top)
    codes = torch.mul(weight, steps).round_()
    if not _within(bounds, clip):
        codes.clamp_(-top, top)
    return codes, steps.reciprocal().mul_(largest > 0)


class _StraightThrough(torch.autograd.Function):
    """Quantized values forward; backward the gradient of what was inside the clip.

    What is kept for the backward pass is the tensor itself for parameters, which live anyway. For
    activations, which would not, it is one byte per value on a GPU; on the CPU, where that costs
    ten times as much time, it is the tensor again, or nothing when no value is clipped.
    """

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        codes: Callable[..., Codes],
        clip: float,
        keep: bool,
        bounded: bool,
    ) -> Tensor:
        """Codes times scale."""
        ctx.clip, ctx.keep = clip, keep or values.device.type == 'cpu'
        bounds = _bounds(values) if ctx.needs_input_grad[0] else None
        if ctx.needs_input_grad[0] and not _within(bounds, clip):
            ctx.save_for_backward(values if ctx.keep else values.abs() >= clip)
        found, scale = codes(values, bounds=bounds) if bounded else codes(values)
        return found.mul_(scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Passes the gradient where ``|value| < clip``."""
        passed = grad
        if ctx.saved_tensors:
            (kept,) = ctx.saved_tensors
            if ctx.keep:
                # one pass; the bounds themselves get none
                passed = torch.ops.aten.hardtanh_backward(grad, kept, -ctx.clip, ctx.clip)
            else:
                passed = grad.masked_fill(kept, 0.0)
        return passed, None, None, None, None


def _bounds(values: Tensor) -> Bounds | None:
    """Smallest and largest value, where looking does not mean to wait for a device."""
    if values.device.type != 'cpu' or not values.numel():
        return None
    low, high = values.aminmax()
    return low.item(), high.item()


def fake_quantize(
    values: Tensor,
    codes: Callable[..., Codes],
    clip: float,
    parameter: bool = True,
    bounded: bool = False,
) -> Tensor:
    """``codes * scale`` with the straight-through gradient.

    Args:
        values: what to quantize.
        codes: makes codes and scales.
        clip: no gradient for values at or beyond it.
        parameter: the values live on until the backward pass; activations should not have to.
        bounded: ``codes`` takes ``bounds``, which are known anyway.

    Returns:
        Quantized values, shape and dtype as given.
    """
    return _StraightThrough.apply(values, codes, clip, parameter, bounded)
