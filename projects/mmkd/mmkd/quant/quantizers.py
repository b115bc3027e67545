"""Quantizers with their settings, as configs name them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from mmdistill.core.errors import UserError
from mmkd.quant.functional import (
    Bounds,
    Codes,
    binary_codes,
    fake_quantize,
    integer_codes,
    ternary_codes,
)
from mmkd.registry import TASK_UTILS


@dataclass(frozen=True)
class WeightQuantizer:
    """Settings that weight quantizers share.

    Attributes:
        axis: dimension of the weight with a scale per index (0: rows); None: one scale.
        clip: weights at or beyond it get no gradient and count as this large.
    """

    axis: int | None = None
    clip: float = 2.5

    def __post_init__(self) -> None:
        if not self.clip > 0:
            raise UserError(f'clip of a quantizer must be above 0, got {self.clip}')

    @property
    def bits(self) -> int:
        """Of a packed code."""
        raise NotImplementedError

    def codes(self, weight: Tensor, bounds: Bounds | None = None) -> Codes:
        """Codes and scales, see :mod:`mmkd.quant.functional`."""
        raise NotImplementedError

    def __call__(self, weight: Tensor) -> Tensor:
        """Quantized weights with a straight-through gradient; the shape as given."""
        return fake_quantize(weight, self.codes, self.clip, bounded=True)


@TASK_UTILS.register_module()
@dataclass(frozen=True)
class Ternary(WeightQuantizer):
    """Ternary weight networks (arXiv:1605.04711), the weights of Teacher Intervention.

    Attributes:
        factor: of the mean magnitude, below which a weight becomes 0.
    """

    factor: float = 0.7

    @property
    def bits(self) -> int:
        """Two."""
        return 2

    def codes(self, weight: Tensor, bounds: Bounds | None = None) -> Codes:
        """See :func:`ternary_codes`."""
        return ternary_codes(weight, self.axis, self.factor, self.clip, bounds)


@TASK_UTILS.register_module()
@dataclass(frozen=True)
class Binary(WeightQuantizer):
    """One bit and a scale (arXiv:1603.05279)."""

    @property
    def bits(self) -> int:
        """One."""
        return 1

    def codes(self, weight: Tensor, bounds: Bounds | None = None) -> Codes:
        """See :func:`binary_codes`."""
        return binary_codes(weight, self.axis, self.clip, bounds)


@TASK_UTILS.register_module()
@dataclass(frozen=True)
class Integer(WeightQuantizer):
    """Integers on a symmetric grid.

    Attributes:
        num_bits: 2 to 8.
    """

    num_bits: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.num_bits <= 8:
            raise UserError(f'num_bits of Integer must be 2 to 8, got {self.num_bits}')

    @property
    def bits(self) -> int:
        """As given."""
        return self.num_bits

    def codes(self, weight: Tensor, bounds: Bounds | None = None) -> Codes:
        """See :func:`integer_codes`."""
        return integer_codes(weight, self.num_bits, self.axis, self.clip, bounds)


@TASK_UTILS.register_module()
@dataclass(frozen=True)
class SymmetricActivation:
    """Activations on a symmetric grid up to the largest magnitude of each tensor, in training too.

    Attributes:
        num_bits: 2 to 8.
        clip: activations at or beyond it get no gradient and count as this large.
        granularity: ``'tensor'``: one scale, as published, so that results depend on what else
            is in the batch; ``'token'``: one per vector of the last dimension.
    """

    num_bits: int = 8
    clip: float = 2.5
    granularity: str = 'tensor'

    def __post_init__(self) -> None:
        if not self.clip > 0:
            raise UserError(f'clip of a quantizer must be above 0, got {self.clip}')
        if not 2 <= self.num_bits <= 8:
            raise UserError(f'num_bits of SymmetricActivation must be 2 to 8, got {self.num_bits}')
        if self.granularity not in ('tensor', 'token'):
            raise UserError(f"granularity must be 'tensor' or 'token', got {self.granularity!r}")

    def codes(self, values: Tensor, bounds: Bounds | None = None) -> Codes:
        """Codes and scales, see :func:`integer_codes`."""
        make = partial(integer_codes, bits=self.num_bits, clip=self.clip, bounds=bounds)
        if self.granularity == 'tensor':
            return make(values)
        found, scale = make(values.reshape(-1, values.shape[-1]), axis=0)
        return found.view_as(values), scale.view(*values.shape[:-1], 1)

    def __call__(self, values: Tensor) -> Tensor:
        """Quantized activations with a straight-through gradient; the shape as given."""
        return fake_quantize(values, self.codes, self.clip, parameter=False, bounded=True)
