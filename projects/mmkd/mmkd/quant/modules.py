"""Linear, convolution and embedding layers that compute with quantized weights.

A layer is quantized by giving it another class: it stays the same object with the same parameters,
keys, hooks and references, and gets its old class back when the quantization ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdistill.core.errors import UserError
from mmkd.quant.quantizers import SymmetricActivation, WeightQuantizer


class SharedActivation:
    """An activation that several layers quantize alike: it is done once.

    Query, key and value projections read the same tensor. The first of them quantizes it, the last
    lets it go.

    Args:
        quantizer: of the activation.
        users: layers that read it.
    """

    def __init__(self, quantizer: SymmetricActivation, users: int) -> None:
        self.quantizer, self.users = quantizer, users
        self._key: tuple | None = None
        self._found: tuple[Tensor, Tensor] | None = None
        self._left = 0

    def __call__(self, values: Tensor) -> Tensor:
        """Quantized values, the same tensor for the same input."""
        key = values._version, torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        if self._found is None or self._found[0] is not values or self._key != key:
            self._key, self._left = key, self.users
            self._found = values, self.quantizer(values)
        found = self._found[1]
        self._left -= 1
        if self._left <= 0:
            self._found = None
        return found

    def __deepcopy__(self, memo: dict) -> SharedActivation:
        """A copy for a copied model; what is between two layers of a forward pass stays behind."""
        return memo.setdefault(id(self), SharedActivation(self.quantizer, self.users))


class QuantizedLayer(nn.Module):
    """What quantized layers have in common.

    Attributes:
        weight_quantizer: of the weight, None leaves it.
        input_quantizer: of what the layer reads, None leaves it.
    """

    weight: nn.Parameter
    weight_quantizer: WeightQuantizer | None
    input_quantizer: Callable[[Tensor], Tensor] | None
    _kept: tuple[Any, Tensor] | None

    def quantized_weight(self) -> Tensor:
        """The weight that the layer computes with.

        Evaluation without gradients quantizes a weight once and again after it has changed.
        """
        if self.weight_quantizer is None:
            return self.weight
        if self.training or torch.is_grad_enabled():
            self._kept = None
            return self.weight_quantizer(self.weight)
        key = self.weight._version, self.weight.data_ptr(), self.weight.dtype
        if self._kept is None or self._kept[0] != key:
            self._kept = key, self.weight_quantizer(self.weight)
        return self._kept[1]

    def quantized_input(self, values: Tensor) -> Tensor:
        """What the layer computes with in place of its input."""
        return values if self.input_quantizer is None else self.input_quantizer(values)

    def train(self, mode: bool = True) -> QuantizedLayer:
        """Training mode lets go of the quantized weight of evaluation."""
        self._kept = None
        return super().train(mode)


class QuantizedLinear(QuantizedLayer, nn.Linear):
    """A linear layer."""

    def forward(self, values: Tensor) -> Tensor:
        """``(..., in)`` to ``(..., out)``."""
        return F.linear(self.quantized_input(values), self.quantized_weight(), self.bias)


class QuantizedConv2d(QuantizedLayer, nn.Conv2d):
    """A convolution."""

    def forward(self, values: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C', H', W')``."""
        return self._conv_forward(self.quantized_input(values), self.quantized_weight(), self.bias)


class QuantizedEmbedding(QuantizedLayer, nn.Embedding):
    """An embedding; with a scale per row only the rows that a batch names are quantized.

    The results are those of quantizing the whole table, bit for bit.
    """

    def forward(self, indices: Tensor) -> Tensor:
        """``(...)`` ids to ``(..., d)``."""
        rows = self.weight_quantizer is not None and self.weight_quantizer.axis == 0
        if not rows or self._kept is not None or self.max_norm is not None:
            table = self.quantized_weight()
            return F.embedding(indices, table, self.padding_idx, self.max_norm)
        used, inverse = indices.unique(return_inverse=True)
        # the row of padding keeps having no gradient
        gathered = F.embedding(used, self.weight, self.padding_idx)
        return F.embedding(inverse, self.weight_quantizer(gathered))


KINDS: dict[type[nn.Module], type[QuantizedLayer]] = {
    nn.Linear: QuantizedLinear,
    nn.Conv2d: QuantizedConv2d,
    nn.Embedding: QuantizedEmbedding,
}
"""Quantized class by class; subclasses of these, which may compute differently, are refused."""


def quantize_layer(
    layer: nn.Module,
    weight: WeightQuantizer | None,
    values: Callable[[Tensor], Tensor] | None = None,
    name: str = 'layer',
) -> None:
    """Turns a layer into its quantized form, in place.

    Args:
        layer: exactly a linear layer, a convolution or an embedding.
        weight: quantizer of the weight, None leaves it.
        values: quantizer of the input, None leaves it.
        name: of the layer, for errors.

    Raises:
        UserError: a layer of another class, one that is quantized already, or ids as values.
    """
    if isinstance(layer, QuantizedLayer):
        raise UserError(f'{name} is quantized already')
    kind = KINDS.get(type(layer))
    if kind is None:
        known = ', '.join(each.__name__ for each in KINDS)
        raise UserError(f'{name} is a {type(layer).__name__}; only {known} can be quantized')
    if values is not None and kind is QuantizedEmbedding:
        raise UserError(f'{name} is an embedding and reads ids: leave out its act')
    layer.__class__ = kind
    layer.weight_quantizer, layer.input_quantizer, layer._kept = weight, values, None


def restore_layer(layer: QuantizedLayer) -> None:
    """Gives a quantized layer its old class back."""
    layer.__class__ = {made: kind for kind, made in KINDS.items()}[type(layer)]
    del layer.weight_quantizer, layer.input_quantizer, layer._kept
