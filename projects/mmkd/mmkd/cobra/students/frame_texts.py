"""What a model writes for the sources of a data set of frames, kept by what it depends on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, get_dist_info, get_world_size
from torch import nn

from mmdistill.core.dist import broadcast_object, raise_together
from mmdistill.core.errors import UserError
from mmkd.cobra.students.dataset import CobraFrameDataset
from mmkd.evaluation.language.line_cache import LineCache
from mmkd.language.tokenize import tokenizer_digest
from mmkd.traces.schema import digest


def weights_digest(network: nn.Module) -> str:
    """Key of all weights of a network, 64 hexadecimal digits."""
    found = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        found.update(f'{name} {value.dtype} {tuple(value.shape)} '.encode())
        content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        found.update(content.numpy())
    return found.hexdigest()


def frame_texts(
    model: Any,
    data: CobraFrameDataset,
    rows: Sequence[int],
    batch: int = 16,
    max_new_tokens: int = 256,
    decoding: Mapping[str, Any] | None = None,
    cache: str | Path | None = None,
) -> list[str]:
    """What a model writes for some frames; every rank gets the texts of all.

    Equal sources are asked once, so that they have equal texts to the letter; the longest come
    first, and ranks share them. Nothing is cut to the length of a reference: texts are those that
    a user would get.

    Args:
        model: ``Seq2SeqStudent``, or ``CausalStudent`` for data with ``decoder_only``.
        data: the frames.
        rows: numbers of frames.
        batch: sources of a forward.
        max_new_tokens: of a text.
        decoding: of ``transformers.GenerationConfig``, ``dict(num_beams=4)`` say; None: greedy.
        cache: file of JSON lines; a text is taken from it where weights, template, tokenizer,
            decoding and source are the same.

    Returns:
        Texts in the order of the rows.

    Raises:
        UserError: sampling, or a damaged cache.
    """
    decoding = dict(decoding or {})
    if decoding.get('do_sample'):
        raise UserError('decoding: do_sample=True draws, and a score must not; use beams or none')
    prompts = [tuple(data.prompt(row)) for row in rows]
    common = None if cache is None else _common(model, data, dict(decoding, most=max_new_tokens))
    keys = {prompt: digest([common, prompt]) for prompt in dict.fromkeys(prompts)}
    known = _known(cache, set(keys.values()))
    todo = sorted((each for each in keys if keys[each] not in known), key=lambda p: (-len(p), p))
    rank, world = get_dist_info()
    own = todo[rank::world]
    made: dict[str, str] = {}
    for begin in range(0, len(own), batch):
        some = own[begin : begin + batch]
        options = dict(decoding, eos_id=data.tokenizer.eos_token_id)
        answers = model.generate(some, max_new_tokens, **options)
        texts = data.tokenizer.batch_decode(
            answers, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        made.update(zip((keys[each] for each in some), texts, strict=True))
    if get_world_size() > 1:
        made = {key: text for part in all_gather_object(made) for key, text in part.items()}
    _keep(cache, made)
    known.update(made)
    return [known[keys[prompt]] for prompt in prompts]


def _common(model: Any, data: CobraFrameDataset, decoding: dict[str, Any]) -> dict[str, Any]:
    """What all texts of a cache have in common."""
    return dict(
        weights=weights_digest(model.network),
        template=data.template.describe(),
        tokenizer=tokenizer_digest(data.tokenizer),
        decoding=decoding,
    )


def _known(cache: str | Path | None, keys: set[str]) -> dict[str, str]:
    """Texts of a cache by key, those that are wanted; rank 0 reads."""
    found, error = {}, None
    if cache is not None and get_dist_info()[0] == 0:
        try:
            with LineCache(cache) as kept:
                found = {key: kept[key]['text'] for key in keys if key in kept}
        except UserError as problem:
            error = problem
    raise_together(error, 'reading the cache')
    return broadcast_object(found)


def _keep(cache: str | Path | None, made: dict[str, str]) -> None:
    """Adds texts to a cache; rank 0 writes."""
    error = None
    if cache is not None and made and get_dist_info()[0] == 0:
        try:
            with LineCache(cache) as kept:
                kept.add(*(dict(key=key, text=text) for key, text in made.items()))
        except UserError as problem:
            error = problem
    raise_together(error, 'writing the cache')
