"""What became of the calls of a generation, in numbers.

That refusals are reported for each group is our own addition: who a teacher refuses to speak of
biases the data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from mmkd.cobra.generation.answers import FAILED, REFUSED
from mmkd.cobra.generation.stages import Row

MIN_ROWS = 50
"""Answers of a group from which on it has a rate; below, there are only counts."""
NO_GROUP = ''
"""Name of those that no group is told of."""


def stage_report(rows: Sequence[Row], min_rows: int = MIN_ROWS) -> dict[str, Any]:
    """Numbers of a stage.

    Args:
        rows: of the stage.
        min_rows: see :data:`MIN_ROWS`.

    Returns:
        ``wanted`` answers, ``rows`` that there are, ``statuses``, ``refusal_rate`` and ``groups``
        by name, each with ``rows``, ``statuses`` and, if it is large enough, ``refusal_rate``:
        the share of refusals among answers, failed calls left out. The stage itself has a rate as
        soon as there is an answer.
    """
    statuses = [(row.item.statement.group or NO_GROUP, _status(row)) for row in rows]
    asked = [(group, status) for group, status in statuses if status]
    groups = sorted({group for group, _ in asked})
    return dict(
        wanted=len(rows),
        **_counts((status for _, status in asked), 1),
        groups={
            name: _counts((status for group, status in asked if group == name), min_rows)
            for name in groups
        },
    )


def _counts(statuses: Iterable[str], min_rows: int) -> dict[str, Any]:
    """Rows, statuses, and the rate of refusals if there are enough answers."""
    found = Counter(statuses)
    rows = found.total()
    answers = rows - found[FAILED]
    counts = dict(rows=rows, statuses={name: found[name] for name in sorted(found) if found[name]})
    if answers >= min_rows:
        counts['refusal_rate'] = round(found[REFUSED] / answers, 6)
    return counts


def _status(row: Row) -> str:
    """Status of the answer, without the slots that it lacks; empty: there is no answer."""
    return row.answer.status.partition(':')[0] if row.answer else ''
