"""A teacher that repeats what was recorded."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from mmdistill.core.errors import UserError
from mmkd.registry import TEACHERS
from mmkd.teachers.base import Reply
from mmkd.traces.schema import Message, Query, Sampling, Trace, read_record, row_key

_WITHOUT_ANSWER = ('too_long', 'failed')


@TEACHERS.register_module()
class ReplayTeacher:
    """Answers from recorded traces: no network, no model, the same answers each time.

    What is asked again gives the next recorded sample of it, and the first one after the last. A
    question that was not recorded, or with other sampling, gives a failed reply.

    Args:
        jsonl: file of traces, one a line.
        name: of the teacher whose traces answer; None: the only one in the file.
        concurrency: calls that are worth making side by side.

    Raises:
        UserError: there is no such file, a line is no trace, or the name is not clear.
    """

    def __init__(self, jsonl: str, name: str | None = None, concurrency: int = 8) -> None:
        traces = read_traces(jsonl)
        names = sorted({each.teacher for each in traces})
        if name is None and len(names) != 1:
            raise UserError(f'{jsonl}: has traces of {names}: give one of them as name')
        if name is not None and name not in names:
            raise UserError(f'{jsonl}: has no traces of {name!r}, but of {names}')
        self.name, self.concurrency = name or names[0], concurrency
        self._traces = {each.row_key: each for each in traces if each.teacher == self.name}
        self._asked: Counter[str] = Counter()

    async def __aenter__(self) -> ReplayTeacher:
        """Begins anew with the first sample of each question."""
        self._asked.clear()
        return self

    async def __aexit__(self, *error: object) -> None:
        """Nothing to close."""

    async def agenerate(self, messages: list[Message], sampling: Sampling) -> Reply:
        """A recorded answer, see :class:`~mmkd.teachers.base.Teacher`."""
        query = _query(messages)
        if query is None:
            return Reply(status='failed', error='replay knows one system and one user message')
        first = row_key(query, self.name, sampling)
        key = row_key(query, self.name, sampling, self._asked[first])
        if key not in self._traces:
            key, self._asked[first] = first, 0
        if key not in self._traces:
            return Reply(status='failed', error=f'no trace of this question and sampling: {key}')
        self._asked[first] += 1
        return _reply(self._traces[key])


def read_traces(jsonl: str) -> list[Trace]:
    """Traces of a file.

    Raises:
        UserError: there is no such file, or a line is no trace.
    """
    if not Path(jsonl).is_file():
        raise UserError(f'{jsonl}: there is no such file of traces')
    with open(jsonl, 'rb') as file:
        return [
            read_record(Trace, line, f'{jsonl}, line {number}')
            for number, line in enumerate(file, 1)
            if line.strip()
        ]


def _query(messages: list[Message]) -> Query | None:
    """The query that has these messages, or None."""
    texts = {each['role']: each['content'] for each in messages}
    query = Query(
        source_uid='replay',
        system_text=texts.get('system', ''),
        user_text=texts.get('user', ''),
    )
    return query if query.messages() == messages else None


def _reply(trace: Trace) -> Reply:
    """What the teacher said then; whether that is good enough is judged anew."""
    return Reply(
        text=trace.response_text,
        finish_reason=trace.finish_reason,
        usage=trace.usage,
        attempts=trace.attempts,
        latency_ms=trace.latency_ms,
        endpoint_id=trace.endpoint_id,
        status=trace.status if trace.status in _WITHOUT_ANSWER else 'ok',
        error=trace.error if trace.status in _WITHOUT_ANSWER else '',
    )
