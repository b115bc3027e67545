"""Which layers of a network are quantized, and how: rules by pattern, the first that fits wins."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from mmdistill.core.errors import UserError, options_of
from mmkd.quant.modules import (
    KINDS,
    QuantizedLayer,
    SharedActivation,
    quantize_layer,
    restore_layer,
)
from mmkd.quant.quantizers import SymmetricActivation, WeightQuantizer
from mmkd.registry import TASK_UTILS

RULE = dict(pattern='', layer=None, weight=None, act=None, skip=False)
KIND_OF = {kind.__name__: kind for kind in KINDS}


@dataclass
class Rule:
    """One rule.

    Attributes:
        pattern: regular expression, searched in the qualified name of a layer.
        layer: class of the layers, None for all that can be quantized.
        weight: quantizer of their weights.
        act: quantizer of what they read.
        skip: leaves them as they are.
        fits: names of the layers for which it was the first that fits.
    """

    pattern: re.Pattern
    layer: type[nn.Module] | None
    weight: WeightQuantizer | None
    act: SymmetricActivation | None
    skip: bool
    fits: list[str] = field(default_factory=list)


def read_rules(given: Sequence[Mapping[str, Any]]) -> list[Rule]:
    """Rules of a config.

    Args:
        given: dicts with keys of :data:`RULE`; ``weight`` and ``act`` are configs or objects.

    Raises:
        UserError: an unknown key or class of layers, a broken pattern, or a rule without effect.
    """
    rules = []
    for number, each in enumerate(given):
        name = f'recipe[{number}]'
        options = options_of(name, each, RULE)
        try:
            pattern = re.compile(options['pattern'])
        except re.error as error:
            raise UserError(f'{name}: {options["pattern"]!r} is no pattern: {error}') from error
        kind = options['layer']
        if kind is not None and kind not in KIND_OF:
            raise UserError(f'{name}: layer must be one of {sorted(KIND_OF)}, got {kind!r}')
        made = {
            key: TASK_UTILS.build(value) if isinstance(value, Mapping) else value
            for key, value in options.items()
            if key in ('weight', 'act')
        }
        if options['skip'] == any(value is not None for value in made.values()):
            raise UserError(f'{name}: give either skip=True or at least one of weight and act')
        kind = KIND_OF.get(kind)
        rules.append(Rule(pattern, kind, made['weight'], made['act'], options['skip']))
    return rules


def quantize(
    network: nn.Module,
    recipe: Sequence[Mapping[str, Any]],
    shared: Sequence[Sequence[str]] = (),
) -> dict[str, QuantizedLayer]:
    """Quantizes layers of a network in place, all or none.

    Args:
        network: parameters, their names and the modules stay the same objects.
        recipe: rules, see :func:`read_rules`.
        shared: names of layers that read the same tensor, such as queries, keys and values.

    Returns:
        The quantized layers by qualified name.

    Raises:
        UserError: a rule that is wrong or fits no layer, or a layer that cannot be quantized.
    """
    rules = read_rules(recipe)
    chosen: dict[str, tuple[nn.Module, Rule]] = {}
    for name, layer in network.named_modules():
        if not isinstance(layer, tuple(KINDS)):
            continue
        for rule in rules:
            kind = rule.layer is None or isinstance(layer, rule.layer)
            if kind and rule.pattern.search(name):
                rule.fits.append(name)
                if not rule.skip:
                    chosen[name] = layer, rule
                break
    for number, rule in enumerate(rules):
        if not rule.fits and not rule.skip:
            raise UserError(
                f'recipe[{number}] fits no layer of {type(network).__name__}: '
                f'pattern {rule.pattern.pattern!r}; an earlier rule may have taken them'
            )
    inputs = _inputs(chosen, shared)
    done: dict[str, QuantizedLayer] = {}
    try:
        for name, (layer, rule) in chosen.items():
            quantize_layer(layer, rule.weight, inputs[name], name)
            done[name] = layer
    except UserError:
        for layer in done.values():
            restore_layer(layer)
        raise
    return done


def _inputs(
    chosen: Mapping[str, tuple[nn.Module, Rule]], shared: Sequence[Sequence[str]]
) -> dict[str, Callable[[Tensor], Tensor] | None]:
    """Quantizers of what layers read; layers that read the same tensor alike have one of them."""
    found: dict[str, Any] = {name: rule.act for name, (_, rule) in chosen.items()}
    for names in shared:
        acts = [found.get(name) for name in names]
        if len(names) > 1 and acts[0] is not None and all(act == acts[0] for act in acts):
            found.update(dict.fromkeys(names, SharedActivation(acts[0], len(names))))
    return found


def restore(network: nn.Module) -> None:
    """Ends the quantization of a network: all layers have their old class again."""
    for layer in network.modules():
        if isinstance(layer, QuantizedLayer):
            restore_layer(layer)
