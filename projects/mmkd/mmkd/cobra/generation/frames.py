"""Frames of what a teacher has answered, whole ones and those that are not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from mmkd.cobra.generation.answers import OK
from mmkd.cobra.generation.stages import Item, Row, Stage
from mmkd.cobra.schema import CONTEXT, Frame, Provenance
from mmkd.cobra.tables.importers import frame_of, with_unique_ids
from mmkd.traces.schema import digest

UNEXPLAINED = 'unexplained'
"""Status of a context whose explanation has not been asked for yet."""
REPEATED = 'repeated'
"""Status of a frame whose statement and context an earlier frame has."""
Ended = tuple[Item, str]
"""An item that is asked about no more, with its status."""


def frames_of(stages: Sequence[Stage], items: Sequence[Item]) -> list[Frame]:
    """Frames in the order of the statements, of their contexts and of the sides of pairs.

    Every answer that leads no further makes a frame; slots are filled where the status of its
    ``provenance`` is ``ok`` alone. ``provenance`` is that of the last call, save for ``attempts``,
    which are those of all calls. ``extra`` has ``prompt_hashes`` of all calls, and what a context
    of a pair was ``meant`` to be. Labels stay empty: nobody has judged anything.

    Args:
        stages: in their order.
        items: of the first one.

    Raises:
        UserError: a line of a journal is no trace.
    """
    ended: list[Ended] = []
    for stage in stages:
        rows = stage.rows(items)
        ended += [found for row in rows if (found := _ended(row))]
        items = stage.next_items(rows)
    last = OK if stages[-1].builder.kind == 'explanations' else UNEXPLAINED
    ended += [(item, last) for item in items]
    ended.sort(key=lambda each: (each[0].index, each[0].number or 0, each[0].side or ''))
    return with_unique_ids(_frame(*each) for each in _repeats_marked(ended))


def _ended(row: Row) -> Ended | None:
    """The item of a row that leads no further; None: it does, or nothing is known of it."""
    if row.answer is None:
        return (row.item, UNEXPLAINED) if row.item.context else None
    if row.answer.status == OK:
        return None
    number = row.sample if row.item.number is None else row.item.number
    calls = (*row.item.calls, row.answer)
    return replace(row.item, number=number, calls=calls), row.answer.status


def _repeats_marked(ended: Iterable[Ended]) -> list[Ended]:
    """The same, with :data:`REPEATED` for what would be a whole frame for the second time."""
    seen: set[str] = set()
    marked = []
    for item, status in ended:
        key = digest([item.statement.text, item.context])
        marked.append((item, REPEATED if status == OK and key in seen else status))
        if status == OK:
            seen.add(key)
    return marked


def _frame(item: Item, status: str) -> Frame:
    """The frame of an item."""
    statement, last = item.statement, item.calls[-1]
    values = dict(statement=statement.text, **(item.context or dict.fromkeys(CONTEXT, '')))
    if status == OK:
        values |= last.values
    extra = dict(prompt_hashes=' '.join(each.provenance.prompt_hash for each in item.calls))
    if item.meant:
        extra['meant'] = item.meant
    attempts = sum(each.provenance.attempts for each in item.calls)
    provenance: Provenance = last.provenance.model_copy(
        update=dict(status=status, attempts=attempts)
    )
    return frame_of(
        values,
        pair_id=digest(dict(pair=statement.id, number=item.number)) if item.side else None,
        side=item.side,
        group=statement.group,
        source=statement.source,
        split=statement.split,
        provenance=provenance,
        extra=extra,
    )
