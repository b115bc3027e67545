"""Low-bit layers in their straightforward form, to measure the library's against.

Each weight goes through one elementwise operation after the other with masks of floats, the whole
word table at every step; queries, keys and values quantize the same input once each; the backward
pass keeps the input and copies the gradient. The values are those of the library.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class ReferenceTernary(torch.autograd.Function):
    """Ternary weights with a scale for all, or one per row."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, clip: float, rows: bool) -> Tensor:
        """Scale times sign where the magnitude is large enough."""
        ctx.save_for_backward(values)
        ctx.clip = clip
        clipped = torch.where(values < clip, values, torch.full_like(values, clip))
        clipped = torch.where(clipped > -clip, clipped, torch.full_like(clipped, -clip))
        dims = (1,) if rows else tuple(range(values.dim()))
        threshold = 0.7 * clipped.abs().mean(dims, keepdim=True).expand_as(values)
        positive = (clipped > threshold).to(values.dtype)
        negative = (clipped < -threshold).to(values.dtype)
        kept = (clipped.abs() > threshold).to(values.dtype)
        scale = (kept * clipped).abs().sum(dims, keepdim=True)
        scale = scale / kept.sum(dims, keepdim=True).clamp(min=1)
        return scale * positive - scale * negative

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Nothing at and beyond the clip."""
        return masked(grad, *ctx.saved_tensors, ctx.clip), None, None


class ReferenceInteger(torch.autograd.Function):
    """Activations in 8 bits with a scale for the tensor."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, clip: float) -> Tensor:
        """Rounded on a grid up to the largest magnitude."""
        ctx.save_for_backward(values)
        ctx.clip = clip
        clipped = torch.where(values < clip, values, torch.full_like(values, clip))
        clipped = torch.where(clipped > -clip, clipped, torch.full_like(clipped, -clip))
        largest = clipped.abs().max().expand_as(values)
        steps = 127 / largest
        return torch.round(clipped * steps) / steps

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Nothing at and beyond the clip."""
        return masked(grad, *ctx.saved_tensors, ctx.clip), None


def masked(grad: Tensor, values: Tensor, clip: float) -> Tensor:
    """A copy of the gradient that is 0 where the value is clipped."""
    passed = grad.clone()
    passed[values >= clip] = 0
    passed[values <= -clip] = 0
    return passed


class TernaryWeight:
    """Quantizer of a weight; the library's layers see no axis, and so take the whole table."""

    axis, clip = None, 2.5

    def __init__(self, rows: bool = False) -> None:
        self.rows = rows

    def __call__(self, weight: Tensor) -> Tensor:
        """Ternary weights."""
        return ReferenceTernary.apply(weight, self.clip, self.rows)


class IntegerActivation:
    """Quantizer of an activation; no two are equal, so that nothing is shared."""

    clip = 2.5

    def __call__(self, values: Tensor) -> Tensor:
        """Activations in 8 bits."""
        return ReferenceInteger.apply(values, self.clip)


def make_straightforward(network: torch.nn.Module) -> None:
    """Gives the quantized layers of a network the quantizers of this module, in place."""
    from mmkd.quant.modules import QuantizedEmbedding, QuantizedLayer

    for layer in network.modules():
        if isinstance(layer, QuantizedLayer):
            layer.weight_quantizer = TernaryWeight(isinstance(layer, QuantizedEmbedding))
            if layer.input_quantizer is not None:
                layer.input_quantizer = IntegerActivation()
        elif hasattr(layer, 'mmkd_state'):
            layer.mmkd_state.quantizer = IntegerActivation()
