"""Greedy answers of a language model to queries, in batches, kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from mmdistill.core.errors import UserError
from mmkd.evaluation.language.line_cache import LineCache
from mmkd.language.generation import generate
from mmkd.language.language_model import base_model
from mmkd.language.templates import Template, template_of
from mmkd.language.tokenize import PromptEncoder
from mmkd.traces.schema import Query, digest


@dataclass(frozen=True)
class Answer:
    """What a model said.

    Attributes:
        text: without special tokens.
        finish_reason: ``stop``, or ``length`` where ``max_new_tokens`` ended it.
        tokens: that were made.
    """

    text: str
    finish_reason: str
    tokens: int


def answer_all(
    model: nn.Module,
    tokenizer: Any,
    queries: Sequence[Query],
    template: str | Mapping[str, Any] | Template = 'plain',
    batch: int = 8,
    max_new_tokens: int = 256,
    cache: str | Path | None = None,
    checkpoint: str = '',
) -> list[Answer]:
    """Greedy answers, the same as to one query after the other.

    Prompts are padded on the left, the longest first. Modes and config of the model are as before
    afterwards.

    Args:
        model: causal language model of Hugging Face.
        tokenizer: of Hugging Face.
        queries: in any order.
        template: see :func:`mmkd.language.templates.template_of`; the one of the training.
        batch: prompts of a forward.
        max_new_tokens: of an answer.
        cache: JSON lines of answers, by checkpoint, prompt and decoding; those are not made again.
        checkpoint: tells the weights apart in the cache, see :func:`folder_digest`.

    Returns:
        Answers in the order of the queries.

    Raises:
        UserError: a cache without the checkpoint's name, or a prompt that is too long.
    """
    if cache is not None and not checkpoint:
        raise UserError('answers are kept by checkpoint: give its digest, see folder_digest')
    encode = PromptEncoder(tokenizer, template_of(template))
    prompts = encode((query.system_text, query.user_text) for query in queries)
    eos, size = encode.end_id, len(tokenizer)
    limit = getattr(base_model(model).config, 'max_position_embeddings', None)
    for query, prompt in zip(queries, prompts, strict=True):
        if limit and len(prompt) + max_new_tokens > limit:
            raise UserError(
                f'{query.source_uid}: {len(prompt)} tokens and {max_new_tokens} new ones are more '
                f'than the model reads, {limit}; lower max_new_tokens or leave the query out'
            )
    decoding = dict(greedy=True, max_new_tokens=max_new_tokens, eos=eos, vocab_size=size)
    keys = [digest(dict(of=checkpoint, prompt=ids, decoding=decoding)) for ids in prompts]
    with LineCache(cache) as kept:
        todo = {key: ids for key, ids in zip(keys, prompts, strict=True) if key not in kept}
        order = sorted(todo, key=lambda key: (-len(todo[key]), key))
        for start in range(0, len(order), batch):
            some = order[start : start + batch]
            made = generate(model, [todo[key] for key in some], max_new_tokens, size, eos)
            texts = tokenizer.batch_decode(made, skip_special_tokens=True)
            kept.add(
                *(
                    dict(
                        key=key,
                        text=text,
                        finish_reason='length' if len(ids) == max_new_tokens else 'stop',
                        tokens=len(ids),
                    )
                    for key, text, ids in zip(some, texts, made, strict=True)
                )
            )
        rows = [kept[key] for key in keys]
    return [Answer(row['text'], row['finish_reason'], row['tokens']) for row in rows]


def folder_digest(folder: str | Path) -> str:
    """Key of the contents of all files of a folder, ``str``.

    Raises:
        UserError: there are none.
    """
    files = sorted(path for path in Path(folder).rglob('*') if path.is_file())
    if not files:
        raise UserError(f'{folder}: there are no files in it')
    found = {}
    for path in files:
        content = hashlib.sha256()
        with path.open('rb') as file:
            while piece := file.read(1 << 22):
                content.update(piece)
        found[path.relative_to(folder).as_posix()] = content.hexdigest()
    return digest(found)
