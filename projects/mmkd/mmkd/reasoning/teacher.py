"""A teacher of the world that needs no endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmkd.reasoning.personas import PREFIX, Faults, faults_of, persona_of, say
from mmkd.reasoning.vocabulary import Vocabulary
from mmkd.registry import TEACHERS
from mmkd.teachers.base import Reply
from mmkd.traces.schema import Message, Sampling, Usage


@TEACHERS.register_module()
class WorldTeacher:
    """Solves and explains the world's questions, the same way each time.

    Of the sampling, ``max_tokens`` and ``stop`` count. Tokens are those of the world's tokenizer.

    Args:
        persona: ``answer`` tells the answer, ``intermediate`` also the states in short, ``strong``
            every step, and none of them more than the system message asks for.
        seed: another one gives faults to other questions.
        faults: shares by name, see :class:`~mmkd.reasoning.personas.Faults`; None: no faults.
        concurrency: calls that are worth making side by side.

    Raises:
        UserError: an unknown persona or fault.
    """

    def __init__(
        self,
        persona: str = 'strong',
        seed: int = 0,
        faults: Mapping[str, float] | None = None,
        concurrency: int = 8,
    ) -> None:
        persona_of(persona)
        self.name, self.concurrency = f'{PREFIX}{persona}', concurrency
        self._persona, self._seed, self._faults = persona, seed, faults_of(faults)
        self._vocabulary = Vocabulary()

    async def __aenter__(self) -> WorldTeacher:
        """Nothing to open."""
        return self

    async def __aexit__(self, *error: object) -> None:
        """Nothing to close."""

    async def agenerate(self, messages: list[Message], sampling: Sampling) -> Reply:
        """An answer, see :class:`~mmkd.teachers.base.Teacher`."""
        return world_reply(
            self._persona, messages, sampling, self._seed, self._faults, self._vocabulary
        )


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
