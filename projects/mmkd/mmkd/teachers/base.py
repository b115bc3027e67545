"""What a teacher is: something that answers messages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from mmkd.traces.schema import Message, Sampling, Usage


@dataclass(frozen=True)
class Reply:
    """An answer.

    Attributes:
        text: of the answer.
        finish_reason: ``stop``, ``length``, ``content_filter``, ... as the endpoint says.
        usage: tokens of the call.
        attempts: calls that were made for it.
        latency_ms: of the last call.
        endpoint_id: alias of the endpoint that answered.
        status: ``ok``; or ``too_long`` or ``failed`` where no answer is to be had.
        error: why not, one line.
    """

    text: str = ''
    finish_reason: str = ''
    usage: Usage = field(default_factory=Usage)
    attempts: int = 1
    latency_ms: int = 0
    endpoint_id: str = 'default'
    status: str = 'ok'
    error: str = ''


class Teacher(Protocol):
    """Answers messages; a context manager that holds what it needs meanwhile.

    Attributes:
        name: of the model, part of every row's key.
        concurrency: calls that are worth making side by side.
        settings: what else its answers depend on, as JSON has it, without keys and addresses; a run
            directory refuses others than those that it was begun with. A teacher may lack it.
    """

    name: str
    concurrency: int

    async def __aenter__(self) -> Teacher: ...

    async def __aexit__(self, *error: object) -> None: ...

    async def agenerate(self, messages: list[Message], sampling: Sampling) -> Reply:
        """An answer.

        A question without an answer (bad request, too long, attempts used up) is a
        :class:`Reply` with that ``status``.

        Raises:
            mmdistill.core.errors.UserError: nothing can be asked at all, for instance a key that
                the endpoint does not accept.
        """
        ...
