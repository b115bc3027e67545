"""Answers of a language model to a batch of prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mmdistill.core.errors import UserError
from mmkd.language.language_model import base_model


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Puts all modules in evaluation mode, and back into the mode of each at the end."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def left_padded(
    prompts: Sequence[Sequence[int]], pad_id: int, right: bool = False
) -> tuple[Tensor, Tensor]:
    """Prompts that end side by side.

    Args:
        prompts: numbers of tokens.
        pad_id: token that fills the front.
        right: it fills the back instead, as in the training of an encoder.

    Returns:
        Tokens and mask (1: a token of the prompt), both ``(B, longest)`` int64.

    Raises:
        UserError: an empty prompt.
    """
    if not all(len(prompt) for prompt in prompts):
        raise UserError('generate: a prompt has no token; begin it with the BOS token')
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), pad_id)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        begin = 0 if right else longest - len(prompt)
        ids[row, begin : begin + len(prompt)] = torch.as_tensor(prompt)
        mask[row, begin : begin + len(prompt)] = 1
    return ids, mask


def first_known(*values: Any) -> Any:
    """The first value that is not None, or None."""
    return next((value for value in values if value is not None), None)


def generate(
    network: nn.Module,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    vocab_size: int,
    eos_id: int | Sequence[int] | None = None,
    pad_id: int | None = None,
    **options: Any,
) -> list[list[int]]:
    """Answers, greedy unless the options say otherwise.

    Modes and config of the network are as before afterwards; no gradient is kept.

    Args:
        network: of Hugging Face, with or without adapters; a causal one, or an encoder, which reads
            the prompts, with a decoder.
        prompts: numbers of tokens, of any lengths.
        max_new_tokens: of an answer.
        vocab_size: tokens from here on are never chosen.
        eos_id: tokens that end an answer; None: those of the network's own config.
        pad_id: token of the padding; None: the network's own, or 0. It is masked.
        **options: of ``transformers.GenerationConfig``, ``do_sample=True, temperature=0.7`` say.

    Returns:
        New tokens of each prompt, without the one that ended it.

    Raises:
        UserError: an empty prompt.
    """
    from transformers import GenerationConfig

    if not prompts:
        return []
    base = base_model(network)
    own = base.generation_config
    eos = first_known(eos_id, own.eos_token_id, base.config.eos_token_id)
    ends = [] if eos is None else [eos] if isinstance(eos, int) else list(eos)
    pad = first_known(pad_id, own.pad_token_id, base.config.pad_token_id, 0)
    rows = base.get_input_embeddings().weight.shape[0]
    encoder = base.config.is_encoder_decoder
    start = first_known(
        own.decoder_start_token_id, getattr(base.config, 'decoder_start_token_id', None)
    )
    setting = GenerationConfig(
        max_new_tokens=max_new_tokens,
        eos_token_id=ends or None,
        pad_token_id=pad,
        decoder_start_token_id=start if encoder else None,
        suppress_tokens=list(range(vocab_size, rows)) or None,
        use_cache=True,
        **dict(dict(do_sample=False), **options),
    )
    ids, mask = (each.to(base.device) for each in left_padded(prompts, pad, encoder))
    with evaluating(network), torch.no_grad(), own_defaults(base, GenerationConfig()):
        made = base.generate(input_ids=ids, attention_mask=mask, generation_config=setting)
    begin = 1 if encoder else ids.shape[1]
    return [until(row, ends) for row in made[:, begin:].tolist()]


@contextmanager
def own_defaults(base: nn.Module, defaults: Any) -> Iterator[None]:
    """Hides the network's own generation settings, which would fill what is not given."""
    before, base.generation_config = base.generation_config, defaults
    try:
        yield
    finally:
        base.generation_config = before


def until(tokens: list[int], ends: Sequence[int]) -> list[int]:
    """Tokens before the first of some."""
    stop = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[:stop]
