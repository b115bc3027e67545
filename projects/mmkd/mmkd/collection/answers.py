"""What is still to be asked, and the rows that replies become."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone

from mmkd.collection.shards import Shard
from mmkd.teachers.base import Reply
from mmkd.traces.schema import Query, Sampling, Trace, row_key
from mmkd.version import __version__

BREATH = 64
"""Questions that are passed over before others get a turn."""


@dataclass(frozen=True)
class Job:
    """An answer that is wanted.

    Attributes:
        key: of its row.
        query: the question.
        sample_index: number of the answer.
    """

    key: str
    query: Query
    sample_index: int = 0


def short_key(key: str) -> bytes:
    """A row key in half the memory."""
    return bytes.fromhex(key)


def jobs(
    queries: Iterable[Query],
    teacher: str,
    sampling: Sampling,
    samples: int,
    shard: Shard,
    done: set[bytes],
) -> Iterator[Job | None]:
    """What a shard has to ask, one at a time; what it gives out counts as done.

    Args:
        queries: questions; may repeat.
        teacher: name of the model.
        sampling: how it draws.
        samples: answers to each question.
        shard: that asks.
        done: :func:`short_key` of rows that there are; grows.

    Returns:
        Jobs, and now and then None, a chance to do something else meanwhile.
    """
    passed = 0
    for query in queries:
        for index in range(samples):
            key = row_key(query, teacher, sampling, index)
            short = short_key(key)
            if shard.owns(key) and short not in done:
                done.add(short)
                yield Job(key, query, index)
                continue
            passed += 1
            if passed % BREATH == 0:
                yield None


def status_of(reply: Reply) -> str:
    """Status of a row: ``empty`` without any text, ``truncated`` where the bound on tokens cut."""
    if reply.status != 'ok':
        return reply.status
    if not reply.text.strip():
        return 'empty'
    return 'truncated' if reply.finish_reason == 'length' else 'ok'


def trace_of(
    job: Job, teacher: str, sampling: Sampling, reply: Reply, license_tag: str = ''
) -> Trace:
    """The row of a reply.

    Args:
        job: what was asked.
        teacher: name of the model.
        sampling: how it draws.
        reply: what it said.
        license_tag: of the data and teacher.
    """
    return Trace(
        **dict(job.query),
        row_key=job.key,
        teacher=teacher,
        endpoint_id=reply.endpoint_id,
        sampling=sampling,
        sample_index=job.sample_index,
        response_text=_storable(reply.text),
        finish_reason=_storable(reply.finish_reason),
        usage=reply.usage,
        status=status_of(reply),
        error=' '.join(_storable(reply.error).split()),
        attempts=reply.attempts,
        latency_ms=reply.latency_ms,
        created_at=datetime.now(timezone.utc).isoformat(timespec='seconds'),
        collector_version=__version__,
        license_tag=license_tag,
    )


def _storable(text: str) -> str:
    """Pairs of surrogates as their character, halves of pairs as U+FFFD: UTF-8 has neither."""
    return text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')
