"""A teacher of the world that needs no endpoint."""

from __future__ import annotations

from collections.abc import Mapping

from mmkd.reasoning.personas import PREFIX, faults_of, persona_of
from mmkd.reasoning.reply import world_reply
from mmkd.reasoning.vocabulary import Vocabulary
from mmkd.registry import TEACHERS
from mmkd.teachers.base import Reply
from mmkd.traces.schema import Message, Sampling


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
        self.settings = dict(seed=seed, faults=self._faults.model_dump())
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
