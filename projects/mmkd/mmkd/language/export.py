"""Folders of trained language models that ``transformers`` reads."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmdistill.core.errors import UserError
from mmkd.language.language_model import base_model

MARKS = ('config.json', 'adapter_config.json')
BIAS = 'final_logits_bias'
"""A buffer ``(1, V)`` of encoders with decoders like BART."""


def export(
    network: nn.Module, folder: str | Path, vocab_size: int, tokenizer: Any = None,
    merge: bool = True,
) -> None:  # fmt: skip
    """Writes a network, all or nothing; an earlier export in the folder is replaced.

    Args:
        network: of Hugging Face, with or without adapters; nothing of it changes.
        folder: to be made.
        vocab_size: rows of tokens from here on are left out.
        tokenizer: saved beside it, where given.
        merge: adapters are added to the weights; else they alone are saved, and reading them needs
            the pretrained network they belong to.

    Raises:
        UserError: the folder holds something else; or adapters alone of a network that has random
            weights below or new tokens.
    """
    folder = Path(folder)
    if folder.exists() and (folder.is_file() or not replaceable(folder)):
        raise UserError(f'{folder}: it holds something that is no export; choose another folder')
    adapters = hasattr(network, 'peft_config') and not merge
    if adapters:
        check_adapters(network, vocab_size)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f'.{folder.name}.') as temporary:
        new, old = Path(temporary, 'new'), Path(temporary, 'old')
        if adapters:
            network.save_pretrained(str(new), save_embedding_layers=False)
        else:
            save_whole(network, new, vocab_size)
        if tokenizer is not None:
            tokenizer.save_pretrained(str(new))
        if folder.exists():
            shutil.move(folder, old)
        new.rename(folder)


def replaceable(folder: Path) -> bool:
    """Whether a folder is empty or an export."""
    return not any(folder.iterdir()) or any((folder / name).is_file() for name in MARKS)


def check_adapters(network: nn.Module, vocab_size: int) -> None:
    """Checks that adapters can be read without their network's weights.

    Raises:
        UserError: they cannot.
    """
    from transformers import AutoConfig

    base = base_model(network)
    if not base.name_or_path:
        raise UserError('merge=False: the network below was not pretrained; export with merge=True')
    known = AutoConfig.from_pretrained(base.name_or_path).vocab_size
    if known != vocab_size:
        raise UserError(
            f'merge=False: {base.name_or_path} has {known} tokens, this network {vocab_size}: '
            'adapters alone leave the new ones out; export with merge=True'
        )


def save_whole(network: nn.Module, folder: Path, vocab_size: int) -> None:
    """Writes a network with its adapters added and its rows beyond the vocabulary left out."""
    base = base_model(network)
    weights = merged_weights(base)
    for name in vocabulary_weights(base):
        if name in weights:
            weights[name] = weights[name][:vocab_size].clone()
    if BIAS in weights:
        weights[BIAS] = weights[BIAS][:, :vocab_size].clone()
    for name, source in getattr(base, 'all_tied_weights_keys', {}).items():
        weights[name] = weights[source]
    with config_vocabulary(base.config, vocab_size):
        base.save_pretrained(str(folder), state_dict=weights)


@torch.no_grad()
def merged_weights(base: nn.Module) -> dict[str, Tensor]:
    """The state of a network with its adapters added; the network keeps its own.

    Args:
        base: of Hugging Face, with adapters inside or without.

    Returns:
        Tensors, by the names they have without adapters.
    """
    from peft.tuners.lora import LoraLayer

    state = {}
    for name, value in base.state_dict().items():
        if '.lora_' not in name:
            state[name.replace('.base_layer.', '.')] = value
    for name, module in base.named_modules():
        if isinstance(module, LoraLayer):
            weight = module.get_base_layer().weight
            for adapter in module.active_adapters:
                delta = module.get_delta_weight(adapter)
                weight = (weight + delta.to(weight.device)).to(weight.dtype)
            state[f'{name}.weight'] = weight
    return state


def vocabulary_weights(base: nn.Module) -> list[str]:
    """Names of tensors with one row per token."""
    tables = (base.get_input_embeddings(), base.get_output_embeddings())
    names = [name for name, module in base.named_modules() if any(module is t for t in tables)]
    return [f'{name}.{part}' for name in names for part in ('weight', 'bias')]


@contextmanager
def config_vocabulary(config: Any, vocab_size: int) -> Iterator[None]:
    """Lets a config speak of another number of tokens meanwhile."""
    before, config.vocab_size = config.vocab_size, vocab_size
    try:
        yield
    finally:
        config.vocab_size = before
