"""Language models of Hugging Face: made from a config or read, widened, with adapters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmdistill.core.errors import UserError, did_you_mean, options_of
from mmkd.language.attention import check_implementation

LORA = dict(r=8, alpha=16, dropout=0.0, target_modules='all-linear')


def language_model(
    config: Mapping[str, Any] | None = None,
    pretrained: str | None = None,
    attention: str = 'auto',
    dtype: str = 'float32',
    seq2seq: bool = False,
) -> nn.Module:
    """A language model, a causal one unless ``seq2seq``.

    Args:
        config: ``model_type`` and settings of a network with random weights.
        pretrained: folder of ``save_pretrained``, or a name on the hub, instead.
        attention: one of :data:`mmkd.language.attention.IMPLEMENTATIONS`; ``'auto'``:
            FlashAttention 2 where it is installed and the parameters are of 16 bits, else SDPA;
            for an encoder and a decoder what ``transformers`` chooses.
        dtype: of the parameters; ``'float32'`` keeps small updates, 16 bits lose them.
        seq2seq: an encoder with a decoder, T5 say.

    Returns:
        The network.

    Raises:
        UserError: an unknown model type, setting, dtype or attention, a folder without a network,
            or with ``seq2seq`` one that has no encoder.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    if (config is None) == (pretrained is None):
        raise UserError('language_model: give either config or pretrained')
    kind = getattr(torch, dtype, None)
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        raise UserError(f"dtype {dtype!r} is not known; use 'float32' or 'bfloat16'")
    own_choice = seq2seq and attention == 'auto'
    chosen = None if own_choice else chosen_attention(attention, kind)
    options = dict(attn_implementation=chosen, dtype=kind)
    auto = AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM
    if config is not None:
        own = settings(config)
        check_encoder(own, own.model_type, seq2seq)
        try:
            return auto.from_config(own, **options)
        except (ImportError, ValueError) as error:
            raise unusable(own.model_type, chosen, error) from error
    if Path(pretrained).is_dir() and not Path(pretrained, 'config.json').is_file():
        raise UserError(f'{pretrained}: there is no config.json; save_pretrained writes one')
    try:
        if seq2seq:
            check_encoder(AutoConfig.from_pretrained(pretrained), pretrained, seq2seq)
        return auto.from_pretrained(pretrained, **options)
    except OSError as error:
        raise UserError(f'{pretrained}: no network can be read: {error}') from error
    except UserError:
        raise
    except (ImportError, ValueError) as error:
        raise unusable(pretrained, chosen, error) from error


def check_encoder(config: Any, name: str, wanted: bool) -> None:
    """Refuses a network without an encoder where one is wanted.

    Raises:
        UserError: it has none.
    """
    if wanted and not config.is_encoder_decoder:
        raise UserError(
            f'{name}: it has no encoder beside its decoder, as T5 has; train it as a CausalStudent'
        )


def unusable(name: str, attention: str | None, error: Exception) -> UserError:
    """What to say of a network that cannot be made, by far most often for its attention."""
    return UserError(f'{name}: attention {attention!r} cannot be used: {error}')


def chosen_attention(name: str, dtype: torch.dtype) -> str:
    """The attention implementation of a name, see :func:`language_model`."""
    from transformers.utils import is_flash_attn_2_available

    if name != 'auto':
        check_implementation(name)
        return name
    half = dtype in (torch.float16, torch.bfloat16)
    return 'flash_attention_2' if half and is_flash_attn_2_available() else 'sdpa'


def settings(config: Mapping[str, Any]) -> Any:
    """A config of Hugging Face.

    Raises:
        UserError: a model type or a key that is not known.
    """
    from transformers import CONFIG_MAPPING

    given = dict(config)
    kind = given.pop('model_type', '')
    if kind not in CONFIG_MAPPING:
        near = did_you_mean(kind, CONFIG_MAPPING.keys())
        raise UserError(f'language_model: model_type {kind!r} is not known{near}')
    known = CONFIG_MAPPING[kind]().to_dict()
    for key in given:
        if key not in known:
            raise UserError(f'language_model: {kind} has no key {key!r}{did_you_mean(key, known)}')
    return CONFIG_MAPPING[kind](**given)


def widen(network: nn.Module, vocab_size: int | None, multiple: int) -> int:
    """Gives a network rows for new tokens, and more up to a multiple that suits matrix kernels.

    Rows that exist keep their values. A tokenizer with one token more than the network (Orca adds
    a padding token to LLaMA, arXiv 2306.02707, section 4.1) stays as it is.

    Args:
        network: changed in place.
        vocab_size: ``len(tokenizer)``; None: no new tokens.
        multiple: of which the rows are to be one; 1 adds none.

    Returns:
        The number of real tokens; rows from there on stand for nothing.

    Raises:
        UserError: a multiple below 1.
    """
    if multiple < 1:
        raise UserError(f'pad_vocab_to must be at least 1, got {multiple}')
    present = network.get_input_embeddings().weight.shape[0]
    real = max(present, vocab_size or 0)
    rows = -(-real // multiple) * multiple
    if rows != present:
        network.resize_token_embeddings(rows, mean_resizing=False)
    return real


def with_adapters(network: nn.Module, lora: Mapping[str, Any]) -> nn.Module:
    """Freezes a network and adds low-rank adapters (LoRA, arXiv 2106.09685).

    Args:
        network: whose linear layers get them, in place.
        lora: keys of :data:`LORA`; ``target_modules`` are ends of names, or ``'all-linear'``:
            all but the head.

    Raises:
        UserError: unknown keys, or no such modules.
    """
    from peft import LoraConfig, get_peft_model

    found = options_of('lora', lora, LORA)
    targets = found['target_modules']
    setting = LoraConfig(
        r=found['r'],
        lora_alpha=found['alpha'],
        lora_dropout=found['dropout'],
        target_modules=targets if isinstance(targets, str) else list(targets),
        fan_in_fan_out=network.config.model_type == 'gpt2',
        task_type='SEQ_2_SEQ_LM' if network.config.is_encoder_decoder else 'CAUSAL_LM',
    )
    try:
        return get_peft_model(network, setting)
    except ValueError as error:
        raise UserError(f'lora: {error}') from error


def base_model(network: nn.Module) -> nn.Module:
    """The network of Hugging Face itself, also below adapters."""
    return network.get_base_model() if hasattr(network, 'peft_config') else network
