"""Asks a teacher many questions side by side, and keeps what it said in a file."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from mmkd.collection.answers import Job, trace_of
from mmkd.evaluation.language.line_cache import LineCache
from mmkd.teachers.base import Teacher
from mmkd.traces.schema import Query, Sampling, Trace, read_record, row_key


def ask_all(
    teacher: Teacher, queries: Sequence[Query], sampling: Sampling, cache: str | Path | None = None
) -> list[Trace]:
    """Traces of queries, in their order.

    What is in the cache is not asked again, not even what could not be answered, and equal
    questions are asked once. Whatever ends a run early, the answers until then are in the cache.

    Args:
        teacher: asked ``teacher.concurrency`` questions at a time; entered and left here.
        queries: questions.
        sampling: how the teacher draws.
        cache: JSON lines of :class:`mmkd.traces.schema.Trace`; None: nothing is kept.

    Raises:
        UserError: the teacher cannot be asked at all, or the cache is damaged.
    """
    keys = [row_key(query, teacher.name, sampling) for query in queries]
    with LineCache(cache, 'row_key') as kept:
        pairs = zip(keys, queries, strict=True)
        todo = {key: query for key, query in pairs if key not in kept}
        if todo:
            asyncio.run(_ask(teacher, todo, sampling, kept))
        return [read_record(Trace, json.dumps(kept[key]), f'{cache}: {key}') for key in keys]


async def _ask(
    teacher: Teacher, todo: dict[str, Query], sampling: Sampling, kept: LineCache
) -> None:
    """Asks what is to be asked, by workers that end together."""
    waiting = (Job(key, query) for key, query in todo.items())

    async def work() -> None:
        """Asks one question after the other."""
        for job in waiting:
            reply = await teacher.agenerate(job.query.messages(), sampling)
            kept.add(trace_of(job, teacher.name, sampling, reply).model_dump(mode='json'))

    async with teacher:
        count = min(max(1, teacher.concurrency), len(todo))
        workers = [asyncio.ensure_future(work()) for _ in range(count)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
