"""What a filter is, and how filters are applied: nothing is deleted, a status says why not.

Only traces whose status is ``ok`` are looked at; one that a filter objects to becomes
``filtered:<rule>``, and later filters do not see it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

from mmkd.traces.schema import Trace

PREFIX = 'filtered:'
BATCH = 1024
"""Traces that filters see at once."""


class TraceFilter(Protocol):
    """Objects to traces.

    Attributes:
        rule: name of what it objects to.
    """

    rule: str

    def objects(self, traces: Sequence[Trace]) -> list[bool]:
        """Whether it objects to each of them.

        Args:
            traces: with the status ``ok``; together with those of earlier calls, in the order of
                a file.
        """
        ...


class EachFilter:
    """A filter that judges a trace by itself; others derive from it and say ``objects_to``.

    Attributes:
        rule: name of what it objects to.
    """

    rule = ''

    def objects(self, traces: Sequence[Trace]) -> list[bool]:
        """Whether it objects to each of them."""
        return [self.objects_to(trace) for trace in traces]

    def objects_to(self, trace: Trace) -> bool:
        """Whether it objects to a trace."""
        raise NotImplementedError


class Counts:
    """Traces by teacher and status."""

    def __init__(self) -> None:
        self.found: Counter[tuple[str, str]] = Counter()

    def add(self, traces: Iterable[Trace]) -> None:
        """Counts traces."""
        self.found.update((trace.teacher, trace.status) for trace in traces)

    def as_dict(self) -> dict[str, Any]:
        """``total``, ``status`` (counts), ``teachers`` (of each the counts by status)."""
        status: dict[str, int] = {}
        teachers: dict[str, dict[str, int]] = {}
        for (teacher, name), count in sorted(self.found.items()):
            status[name] = status.get(name, 0) + count
            teachers.setdefault(teacher, {})[name] = count
        total, status = sum(status.values()), dict(sorted(status.items()))
        return dict(total=total, status=status, teachers=teachers)


def filtered(
    traces: Iterable[Trace],
    filters: Sequence[TraceFilter],
    counts: Counts | None = None,
    batch: int = BATCH,
) -> Iterator[Trace]:
    """All traces, those that a filter objects to with its status.

    Args:
        traces: in any number; filters that look for repetitions keep the first one.
        filters: in the order in which they judge.
        counts: of what comes out, by teacher and status.
        batch: traces that are in memory at once; the result does not depend on it.
    """
    source = iter(traces)
    while found := list(islice(source, batch)):
        for each in filters:
            places = [n for n, trace in enumerate(found) if trace.status == 'ok']
            objections = each.objects([found[n] for n in places])
            for n, objection in zip(places, objections, strict=True):
                if objection:
                    update = dict(status=PREFIX + each.rule)
                    found[n] = found[n].model_copy(update=update)
        if counts is not None:
            counts.add(found)
        yield from found
