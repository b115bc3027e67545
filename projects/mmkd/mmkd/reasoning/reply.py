"""Replies of personas, for the teacher and the endpoint alike."""

from __future__ import annotations

from collections.abc import Sequence

from mmkd.reasoning.personas import Faults, say
from mmkd.reasoning.vocabulary import Vocabulary
from mmkd.teachers.base import Reply
from mmkd.traces.schema import Message, Sampling, Usage


def world_reply(
    persona: str,
    messages: Sequence[Message],
    sampling: Sampling,
    seed: int,
    faults: Faults,
    vocabulary: Vocabulary,
) -> Reply:
    """What a persona answers, within the bounds of a sampling.

    Args:
        persona: name.
        messages: role and content.
        sampling: its ``max_tokens`` and ``stop`` count.
        seed: of the faults.
        faults: shares.
        vocabulary: counts tokens.

    Raises:
        UserError: an unknown persona.
    """
    said = say(persona, messages, seed, faults, vocabulary)
    text, reason = said.text, said.finish_reason
    stops = [place for stop in sampling.stop if (place := text.find(stop)) >= 0]
    if stops:
        text, reason = text[: min(stops)], 'stop'
    if sampling.max_tokens is not None and vocabulary.count(text) > sampling.max_tokens:
        text, reason = vocabulary.first(text, sampling.max_tokens), 'length'
    prompt = sum(vocabulary.count(each['content']) for each in messages)
    completion = vocabulary.count(text)
    return Reply(
        text, reason, Usage(prompt=prompt, completion=completion, total=prompt + completion)
    )
