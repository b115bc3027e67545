"""Integers of 8 or 4 bits by torchao, for those who deploy with it; torchao is optional.

Its integers are symmetric with a scale per row, or per group within a row: a step is the largest
magnitude over ``(2^bits - 1) / 2``, and codes go from ``-2^(bits-1)`` to ``2^(bits-1) - 1``, so no
weight moves by more than half a step. Ternary weights and clipped activations are not among what
it has: those are ours, see :mod:`mmkd.quant.recipe`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from mmdistill.core.errors import UserError, options_of
from mmkd.registry import MODELS

BITS = (8, 4)
MODES = ('qat', 'weight_only')
RULE = dict(bits=8, pattern='', group_size=None)


def quantize_with_torchao(
    network: nn.Module,
    bits: int = 8,
    pattern: str = '',
    mode: str = 'qat',
    group_size: int | None = None,
) -> list[str]:
    """Quantizes linear layers in place.

    A training goes in two calls, one in each mode, with the same bits and pattern. Keys of the
    ``state_dict`` stay; parameters stay the same objects in the mode ``'qat'``.

    Args:
        network: its linear layers are replaced by torchao's.
        bits: 8 or 4.
        pattern: regular expression, searched in the qualified names of linear layers.
        mode: ``'qat'``: layers compute with rounded weights, the full ones train;
            ``'weight_only'``: integers are stored and do not train, also of layers that trained so.
        group_size: weights of a row that share a scale; None: all of a row.

    Returns:
        Qualified names of the quantized layers.

    Raises:
        UserError: torchao is missing or too old; bits, pattern, mode or group size are wrong; or
            a layer is quantized already.
    """
    if bits not in BITS:
        raise UserError(
            f'bits must be 8 or 4 with torchao, got {bits!r}: for ternary weights use mmkd.Ternary '
            'in a recipe, for other widths mmkd.Binary or mmkd.Integer'
        )
    if mode not in MODES:
        raise UserError(f'mode must be one of {MODES}, got {mode!r}')
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f'{pattern!r} is no pattern: {error}') from error
    ao = _torchao()
    chosen = {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and name and compiled.search(name)
    }
    if not chosen:
        raise UserError(f'{pattern!r} fits no linear layer of {type(network).__name__}')
    dtype = getattr(torch, f'int{bits}')
    for name, layer in chosen.items():
        _check(ao, name, layer, dtype, mode, group_size)
    share = ao.PerAxis(0) if group_size is None else ao.PerGroup(group_size)
    stored = ao.IntxWeightOnlyConfig(weight_dtype=dtype, granularity=share)
    trained = {name for name, each in chosen.items() if type(each) is ao.FakeQuantizedLinear}
    plain = chosen.keys() - trained
    if mode == 'qat':
        rounded = ao.IntxFakeQuantizeConfig(dtype, share)
        steps = [(ao.QATConfig(weight_config=rounded, step='prepare'), plain)]
    else:
        steps = [(stored, plain), (ao.QATConfig(stored, step='convert'), trained)]
    for config, names in steps:
        if names:
            ao.quantize_(network, config, filter_fn=lambda _, name, names=names: name in names)
    return list(chosen)


@MODELS.register_module(name='TorchAO')
def quantized_by_torchao(
    network: Mapping[str, Any] | nn.Module,
    rules: Sequence[Mapping[str, Any]],
    mode: str = 'qat',
) -> nn.Module:
    """A network with layers of torchao, as configs name it.

    It stands where a network stands, for the student of Teacher Intervention together with
    ``recipe=[]``, which leaves its weights to torchao.

    Args:
        network: config of :data:`mmkd.registry.MODELS`, or a built network.
        rules: ``dict(bits=..., pattern=..., group_size=...)`` each; one layer has one rule.
        mode: of all, see :func:`quantize_with_torchao`.

    Returns:
        The network itself.

    Raises:
        UserError: an unknown key, and as :func:`quantize_with_torchao`.
    """
    built = network if isinstance(network, nn.Module) else MODELS.build(network)
    for number, rule in enumerate(rules):
        quantize_with_torchao(built, mode=mode, **options_of(f'rules[{number}]', rule, RULE))
    return built


def _torchao() -> SimpleNamespace:
    """What is used of torchao."""
    try:
        import torchao  # noqa: F401
        from torchao.quantization import IntxWeightOnlyConfig, PerAxis, PerGroup, quantize_
        from torchao.quantization.qat import (
            FakeQuantizedLinear,
            IntxFakeQuantizeConfig,
            QATConfig,
        )
    except ImportError as error:
        raise UserError(
            f'torchao 0.14 or newer is needed and cannot be imported ({error}): pip install torchao'
        ) from error
    return SimpleNamespace(
        FakeQuantizedLinear=FakeQuantizedLinear,
        IntxFakeQuantizeConfig=IntxFakeQuantizeConfig,
        IntxWeightOnlyConfig=IntxWeightOnlyConfig,
        PerAxis=PerAxis,
        PerGroup=PerGroup,
        QATConfig=QATConfig,
        quantize_=quantize_,
    )


def _check(
    ao: SimpleNamespace,
    name: str,
    layer: nn.Linear,
    dtype: torch.dtype,
    mode: str,
    group_size: int | None,
) -> None:
    """Whether a layer can be quantized so."""
    trained = type(layer) is ao.FakeQuantizedLinear
    if type(layer) is not nn.Linear and not trained:
        raise UserError(
            f'{name} is a {type(layer).__name__}; torchao takes linear layers that nothing else '
            'quantizes: let the pattern or the recipe leave it out'
        )
    if type(layer.weight) is not nn.Parameter or (trained and mode == 'qat'):
        raise UserError(f'{name} is quantized by torchao already: let one rule alone fit it')
    if group_size is not None and (group_size < 1 or layer.in_features % group_size):
        raise UserError(
            f'group_size {group_size} does not divide the {layer.in_features} inputs of {name}'
        )
    if trained and layer.weight_fake_quantizer.config.dtype != dtype:
        was = layer.weight_fake_quantizer.config.dtype
        raise UserError(
            f'{name} was trained as {was} and would be stored as {dtype}: give its bits'
        )
