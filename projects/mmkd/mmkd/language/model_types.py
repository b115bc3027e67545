"""Networks whose documents are known to stay apart in a pack."""

from __future__ import annotations

from typing import Any

from torch import nn

from mmdistill.core.errors import UserError, did_you_mean

PROVEN = (
    'gemma', 'gpt2', 'gpt_neox', 'llama', 'mistral', 'olmo2', 'phi3', 'qwen2', 'qwen3', 'smollm3',
)  # fmt: skip
"""Model types for which tests show the losses of packed documents to be those of single ones."""
RECURRENT = (
    'bamba', 'falcon_h1', 'falcon_mamba', 'granitemoehybrid', 'jamba', 'kimi_linear', 'lfm2',
    'mamba', 'mamba2', 'minimax', 'nemotron_h', 'qwen3_next', 'recurrent_gemma', 'rwkv', 'xlstm',
    'zamba', 'zamba2',
)  # fmt: skip
MASKED_LAYERS = {'full_attention', 'sliding_attention'}
HEAD_SETTINGS = ('final_logit_softcapping', 'logit_scale', 'logits_scaling')


def check_packing(network: nn.Module, trust_model_type: bool = False) -> None:
    """Checks that a mask keeps the documents of a pack apart in a network.

    Args:
        network: of Hugging Face.
        trust_model_type: accept a type that is not in :data:`PROVEN`.

    Raises:
        UserError: layers that carry a state or a convolution along the row, which no mask stops;
            or a type that is not proven and not trusted.
    """
    kind = network.config.model_type
    carrier = state_carrier(network)
    if carrier:
        raise UserError(
            f'{kind}: {carrier} mixes tokens along the row without a mask, so packed documents '
            'would leak into each other; use a network of attention only, or block_diagonal=False'
        )
    if kind not in PROVEN and not trust_model_type:
        raise UserError(
            f'{kind}: it is not shown that packed documents stay apart in this model type'
            f'{did_you_mean(kind, PROVEN)}; shown for {", ".join(PROVEN)}. '
            'Set trust_model_type=True if you have tested it, or block_diagonal=False'
        )


def state_carrier(network: nn.Module) -> str:
    """Names what mixes tokens beside attention: recurrent, convolution and state-space layers.

    Args:
        network: of Hugging Face.

    Returns:
        A name for a message; empty where there is nothing of the kind.
    """
    if network.config.model_type in RECURRENT:
        return f'the model type {network.config.model_type!r}'
    others = sorted(set(getattr(network.config, 'layer_types', None) or ()) - MASKED_LAYERS)
    if others:
        return f'the layer type {others[0]!r}'
    for name, module in network.named_modules():
        if isinstance(module, nn.RNNBase | nn.Conv1d):
            return f'the {type(module).__name__} {name!r}'
    return ''


def check_head(config: Any) -> None:
    """Checks that logits are the head's outputs as they are.

    Raises:
        UserError: the network scales or caps them afterwards, which the loss here does not do.
    """
    for name in HEAD_SETTINGS:
        value = getattr(config, name, None)
        if value not in (None, 1, 1.0):
            raise UserError(
                f'{config.model_type}: {name}={value} changes logits behind the head, which is '
                'not supported; use a network without it'
            )
