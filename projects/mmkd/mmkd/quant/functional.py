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


def _others(weight: Tensor, axis: int | None) -> tuple[int, ...]:
    """Dimensions that share a scale: all, or all but one."""
    if axis is None:
        return tuple(range(weight.dim()))
    return tuple(dim for dim in range(weight.dim()) if dim != axis % weight.dim())


def ternary_codes(
    weight: Tensor, axis: int | None = None, factor: float = 0.7, clip: float = 2.5
) -> Codes:
    """Ternary weight networks: ``scale sign(w)`` where ``|w| > factor mean|w|``, else 0.

    Args:
        weight: any shape.
        axis: dimension with a scale per index; None: one scale.
        factor: of the mean magnitude; a weight of exactly that size becomes 0.
        clip: weights count as at most this large.

    Returns:
        Codes in {-1, 0, 1}, and the mean magnitude of what is not 0 as scale; 0 where all is 0.
    """
    dims = _others(weight, axis)
    size = weight.abs().clamp_(max=clip)
    # 1 where the difference is above 0, which it is exactly where the size is above the threshold
    kept = torch.sub(size, factor * size.mean(dims, keepdim=True)).sign_().clamp_(min=0)
    count = kept.sum(dims, keepdim=True).clamp_(min=1)
    scale = size.mul_(kept).sum(dims, keepdim=True).div_(count)
    return torch.copysign(kept, weight, out=kept), scale


def binary_codes(weight: Tensor, axis: int | None = None, clip: float = 2.5) -> Codes:
    """Binary weights, ``scale sign(w)`` with the mean magnitude as scale (arXiv:1603.05279).

    Args:
        weight: any shape.
        axis: dimension with a scale per index; None: one scale.
        clip: weights count as at most this large.

    Returns:
        Codes in {-1, 1} (0 counts as positive) and scales.
    """
    scale = weight.clamp(-clip, clip).abs_().mean(_others(weight, axis), keepdim=True)
    return torch.where(weight < 0, -1.0, 1.0).to(weight), scale


def integer_codes(
    weight: Tensor, bits: int = 8, axis: int | None = None, clip: float = 2.5
) -> Codes:
    """Integers on a symmetric grid up to the largest magnitude, rounded half to even.

    Args:
        weight: any shape; activations too.
        bits: of the codes, at least 2; ``-(2^(bits-1) - 1)`` is the smallest.
        axis: dimension with a scale per index; None: one scale.
        clip: values count as at most this large.

    Returns:
        Codes and scales; where all is 0 both are 0.
    """
    top = 2 ** (bits - 1) - 1
    if axis is None:
        low, high = weight.aminmax()
        largest = torch.maximum(-low, high).clamp_(max=clip).view([1] * weight.dim())
    else:
        largest = weight.abs().amax(_others(weight, axis), keepdim=True).clamp_(max=clip)
    # x * (top / max), then divided by it again: the published order of operations
    steps = top / largest.clamp(min=torch.finfo(weight.dtype).tiny * top)
    codes = torch.mul(weight, steps).round_().clamp_(-top, top)
    return codes, steps.reciprocal().mul_(largest > 0)


class _StraightThrough(torch.autograd.Function):
    """Quantized values forward; backward the gradient of what was inside the clip.

    What is kept for the backward pass is the tensor itself for parameters, which live anyway. For
    activations, which would not, it is one byte per value on a GPU; on the CPU, where that costs
    ten times as much time, it is the tensor again, or nothing when no value is clipped.
    """

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, codes: Callable[[Tensor], Codes], clip: float, keep: bool
    ) -> Tensor:
        """Codes times scale."""
        ctx.clip, ctx.keep = clip, keep or values.device.type == 'cpu'
        if ctx.needs_input_grad[0] and not _unclipped(values, clip):
            ctx.save_for_backward(values if ctx.keep else values.abs() >= clip)
        found, scale = codes(values)
        return found.mul_(scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        """Passes the gradient where ``|value| < clip``."""
        passed = grad
        if ctx.saved_tensors:
            (kept,) = ctx.saved_tensors
            if ctx.keep:
                # one pass; the bounds themselves get none
                passed = torch.ops.aten.hardtanh_backward(grad, kept, -ctx.clip, ctx.clip)
            else:
                passed = grad.masked_fill(kept, 0.0)
        return passed, None, None, None


def _unclipped(values: Tensor, clip: float) -> bool:
    """Whether it is known, without waiting for a device, that no value reaches the clip."""
    if values.device.type != 'cpu' or not values.numel():
        return False
    low, high = values.aminmax()
    return -clip < low.item() and high.item() < clip


def fake_quantize(
    values: Tensor, codes: Callable[[Tensor], Codes], clip: float, parameter: bool = True
) -> Tensor:
    """``codes * scale`` with the straight-through gradient.

    Args:
        values: what to quantize.
        codes: makes codes and scales.
        clip: no gradient for values at or beyond it.
        parameter: the values live on until the backward pass; activations should not have to.

    Returns:
        Quantized values, shape and dtype as given.
    """
    return _StraightThrough.apply(values, codes, clip, parameter)
