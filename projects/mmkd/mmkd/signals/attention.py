"""Transformers of Hugging Face that tell an observer what they compute.

Their attention is a function chosen by name. Ours computes what the plain one does, can quantize
on the way, and asks the observer of the running pass; so do hooks on the layers around it. Without
an observer all is as before.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmdistill.core.errors import UserError
from mmkd.signals.observer import current_observer
from mmkd.signals.parts import AttentionPart, Parts

NAME = 'mmkd'


@dataclass
class AttentionState:
    """What the attention function knows of its module.

    Attributes:
        layer: number, from 0.
        quantizer: of queries, keys, map and values; None leaves them.
    """

    layer: int
    quantizer: Callable[[Tensor], Tensor] | None = None


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Softmax attention whose steps can be noted, quantized and replaced.

    Args:
        module: the attention module, see :func:`install`.
        query: ``(B, H, n, d / H)``; keys and values alike.
        key: see ``query``.
        value: see ``query``.
        attention_mask: added to the scores.
        scaling: of the scores, default ``(d / H) ** -0.5``.
        dropout: share of the map that is dropped.

    Returns:
        Contexts ``(B, n, H, d / H)`` and the map.
    """
    state: AttentionState = module.mmkd_state
    observer, quantize = current_observer(), state.quantizer or (lambda values: values)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.matmul(quantize(query), quantize(key).transpose(2, 3)) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    probs = scores.softmax(-1)
    if observer is not None:
        observer.scores(state.layer, scores)
        probs = observer.attention_map(state.layer, probs)
    kept = nn.functional.dropout(probs, dropout, module.training)
    context = torch.matmul(quantize(kept), quantize(value))
    if observer is not None:
        context = observer.context(state.layer, context)
    return context.transpose(1, 2).contiguous(), probs


def install(
    network: nn.Module, parts: Parts, quantizer: Callable[[Tensor], Tensor] | None = None
) -> None:
    """Makes a network tell observers what it computes, once and for good.

    Args:
        network: one of Hugging Face gets a copy of its config, which other networks may share;
            for one of timm see :mod:`mmkd.signals.timm_attention`.
        parts: its attention layers.
        quantizer: of queries, keys, map and values; None leaves them.

    Raises:
        UserError: the network does not choose its attention by name, or is quantized already.
    """
    if parts.packed:
        from mmkd.signals.timm_attention import install_packed

        install_packed(parts, quantizer)
        parts.embeddings.register_forward_hook(_tell_embeddings)
        return
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, eager_mask

    if not hasattr(network, 'set_attn_implementation'):
        raise UserError(f'{type(network).__name__} cannot choose its attention by name')
    AttentionInterface.register(NAME, attend)
    # without a mask function of the same name padding would be attended to, silently
    AttentionMaskInterface.register(NAME, eager_mask)
    shared = network.config
    own = copy.deepcopy(shared)
    for module in network.modules():
        if getattr(module, 'config', None) is shared:
            module.config = own
    network.set_attn_implementation(NAME)
    parts.embeddings.register_forward_hook(_tell_embeddings)
    for part in parts.layers:
        part.attention.mmkd_state = AttentionState(part.layer, quantizer)
        _hook(part)


def _tell_embeddings(module: nn.Module, args: Any, result: Tensor) -> None:
    """The embeddings are the input of the first layer."""
    if (observer := current_observer()) is not None:
        observer.hidden(0, result)


def _hook(part: AttentionPart) -> None:
    """Hooks around one attention layer."""
    layer = part.layer

    def first(args: tuple, kwargs: dict, change: Callable[[Tensor], Tensor]) -> tuple[tuple, dict]:
        if args:
            return (change(args[0]), *args[1:]), kwargs
        return args, {**kwargs, 'hidden_states': change(kwargs['hidden_states'])}

    def into_attention(module: nn.Module, args: tuple, kwargs: dict) -> tuple | None:
        observer = current_observer()
        if observer is None:
            return None
        return first(args, kwargs, lambda values: observer.attention_input(layer, values))

    def into_query_key(module: nn.Module, args: tuple) -> Tensor | None:
        observer = current_observer()
        return None if observer is None else observer.query_key_input(layer, args[0])

    part.attention.register_forward_pre_hook(into_attention, with_kwargs=True)
    part.query.register_forward_pre_hook(into_query_key)
    part.key.register_forward_pre_hook(into_query_key)
    hook_results(part)


def hook_results(part: AttentionPart) -> None:
    """Hooks behind projection, sum and block of one attention layer."""
    layer, joined = part.layer, part.joined

    def out_of_projection(module: nn.Module, args: tuple, result: Tensor) -> Tensor | None:
        observer = current_observer()
        return None if observer is None else observer.output(layer, result)

    def out_of_sum(module: nn.Module, args: tuple, result: Tensor) -> None:
        if (observer := current_observer()) is not None:
            observer.joined(layer, result)

    def out_of_block(module: nn.Module, args: tuple, result: Tensor | tuple) -> None:
        if (observer := current_observer()) is not None:
            observer.hidden(layer + 1, result[0] if isinstance(result, tuple) else result)

    part.output.register_forward_hook(out_of_projection)
    if joined is not None:
        joined.register_forward_hook(out_of_sum)
    part.block.register_forward_hook(out_of_block)
