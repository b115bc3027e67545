"""Batches of questions for a local model, and their answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList

from mmkd.language.generation import evaluating, first_known, left_padded, own_defaults
from mmkd.teachers.base import Reply
from mmkd.teachers.hf_sampling import RowSampler, draw_of
from mmkd.traces.schema import Sampling, Usage


@dataclass(eq=False)
class Asked:
    """A question that waits for its answer.

    Attributes:
        ids: tokens of the prompt.
        sampling: how the answer is drawn.
        budget: tokens that it may have.
        answer: to come.
    """

    ids: list[int]
    sampling: Sampling
    budget: int
    answer: asyncio.Future


def batches(asked: Sequence[Asked], size: int) -> list[list[Asked]]:
    """Questions of equal budgets and stops, of similar lengths, the longest first.

    Args:
        asked: in any order.
        size: of a batch, at most.
    """
    groups: dict[Any, list[Asked]] = {}
    for each in sorted(asked, key=lambda one: len(one.ids), reverse=True):
        groups.setdefault((each.budget, each.sampling.stop), []).append(each)
    return [
        group[start : start + size]
        for group in groups.values()
        for start in range(0, len(group), size)
    ]


def ends_of(model: Any, tokenizer: Any) -> list[int]:
    """Tokens that end an answer."""
    found = first_known(model.generation_config.eos_token_id, tokenizer.eos_token_id)
    return [] if found is None else [found] if isinstance(found, int) else list(found)


def answer(model: Any, tokenizer: Any, batch: Sequence[Asked]) -> list[Reply]:
    """Answers of a batch that :func:`batches` made.

    Args:
        model: a causal language model of Hugging Face; its modes are as before afterwards.
        tokenizer: of the model.
        batch: questions.
    """
    start, ends = time.monotonic(), ends_of(model, tokenizer)
    pad = first_known(tokenizer.pad_token_id, *ends[:1], 0)
    ids, mask = (each.to(model.device) for each in left_padded([one.ids for one in batch], pad))
    stop = list(batch[0].sampling.stop)
    draws = [draw_of(one.sampling, model.generation_config) for one in batch]
    setting = GenerationConfig(
        max_new_tokens=batch[0].budget,
        do_sample=False,
        eos_token_id=ends or None,
        pad_token_id=pad,
        stop_strings=stop or None,
    )
    sampler = RowSampler(draws, len(tokenizer), model.device)
    with evaluating(model), torch.no_grad(), own_defaults(model, GenerationConfig()):
        made = model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=setting,
            logits_processor=LogitsProcessorList([sampler]),
            tokenizer=tokenizer,
        )
    spent = round(1000 * (time.monotonic() - start))
    return [
        read_row(tokenizer, len(one.ids), row, ends, pad, stop, spent)
        for one, row in zip(batch, made[:, ids.shape[1] :].tolist(), strict=True)
    ]


def read_row(
    tokenizer: Any,
    prompt: int,
    row: list[int],
    ends: Sequence[int],
    pad: int,
    stop: Sequence[str],
    spent: int,
) -> Reply:
    """The reply that a row of new tokens makes.

    Args:
        tokenizer: of the model.
        prompt: tokens of the prompt.
        row: new tokens, with padding behind the end.
        ends: tokens that end an answer.
        pad: token of the padding.
        stop: texts that end an answer; they are cut off.
        spent: milliseconds.
    """
    end = next((place for place, token in enumerate(row) if token in ends), None)
    tokens = row if end is None else row[:end]
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    cut = min((place for each in stop if (place := text.find(each)) >= 0), default=None)
    if end is not None:
        count = end + 1
    else:
        count = len(row)
        while cut is not None and count and row[count - 1] == pad:
            count -= 1
    return Reply(
        text=text if cut is None else text[:cut],
        finish_reason='length' if end is None and cut is None else 'stop',
        usage=Usage(prompt=prompt, completion=count, total=prompt + count),
        latency_ms=spent,
        endpoint_id='local',
    )
