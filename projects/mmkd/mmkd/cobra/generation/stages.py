"""Stages of a generation: what each one asks about, and what its rows leave for the next one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from mmkd.cobra.generation.answers import OK, Answer, read_answer
from mmkd.cobra.generation.prompt_texts import SIDES
from mmkd.cobra.generation.prompting import PromptBuilder
from mmkd.cobra.schema import CONTEXT
from mmkd.cobra.tables.statements import Statement
from mmkd.collection.journal import drop_rows, read_journal
from mmkd.collection.shards import Shard, hold_shard, shard_files
from mmkd.traces.hashing import seeded_number
from mmkd.traces.schema import Query, Sampling, Trace, row_key

Side = Literal['A', 'B']


@dataclass(frozen=True)
class Item:
    """A statement, or one in a context, that is asked about.

    Attributes:
        index: of the statement in its file.
        statement: of the user.
        context: its three slots; None: not yet.
        number: of the context.
        side: of the pair.
        meant: ``harmless`` or ``offensive``, what a context of a pair was asked to be.
        calls: answers so far.
    """

    index: int
    statement: Statement
    context: Mapping[str, str] | None = None
    number: int | None = None
    side: Side | None = None
    meant: str | None = None
    calls: tuple[Answer, ...] = ()


class Row(NamedTuple):
    """An answer about an item: its ``sample`` index, and None as ``answer`` where there is none."""

    item: Item
    sample: int
    answer: Answer | None


@dataclass(frozen=True)
class Stage:
    """A collection run.

    Attributes:
        folder: of the run; its name is that of the stage.
        builder: of its queries.
        sampling: how the teacher draws.
        samples: answers about each item.
    """

    folder: Path
    builder: PromptBuilder
    sampling: Sampling
    samples: int = 1

    @property
    def name(self) -> str:
        """Of the stage."""
        return self.folder.name

    def query(self, item: Item) -> Query:
        """What is asked about an item."""
        return self.builder.query(item.statement.text, item.context, item.number, item.side or '')

    def rows(self, items: Sequence[Item]) -> list[Row]:
        """What has been asked about items and what has not, ``samples`` for each.

        Rows are found by what was asked, so that items of one query share them, and rows of what
        is not asked any more are passed over.

        Raises:
            UserError: a line of a journal is no trace.
        """
        wanted = [
            (_key(self.query(item), sample), item, sample)
            for item in items
            for sample in range(self.samples)
        ]
        statements = {key: item.statement.text for key, item, _ in wanted}
        found: dict[str, Answer] = {}
        for trace in self.traces():
            key = _key(trace, trace.sample_index)
            if key in statements:
                found[key] = read_answer(trace, self.builder, statements[key])
        return [Row(item, sample, found.get(key)) for key, item, sample in wanted]

    def forget(self, items: Sequence[Item], statuses: Collection[str], shard: Shard) -> int:
        """Drops rows, so that the next collection asks for them again, in the same words.

        Args:
            items: what is asked about.
            statuses: without slots, of :data:`~mmkd.cobra.generation.answers.STATUSES`.
            shard: whose rows may go.

        Returns:
            Number of rows that are dropped.

        Raises:
            UserError: another process has the shard.
        """
        statements = {self.query(item).query_key: item.statement.text for item in items}

        def is_unwanted(trace: Trace) -> bool:
            """Whether it is of the shard and has one of the statuses."""
            if not shard.owns(trace.row_key) or trace.query_key not in statements:
                return False
            answer = read_answer(trace, self.builder, statements[trace.query_key])
            return answer.status.partition(':')[0] in statuses

        with hold_shard(self.folder, shard):
            return sum(drop_rows(path, is_unwanted) for path in shard_files(self.folder, shard))

    def traces(self) -> Iterator[Trace]:
        """All rows of the run directory."""
        for path in shard_files(self.folder):
            yield from (trace for _, _, trace in read_journal(path))

    def next_items(self, rows: Iterable[Row]) -> list[Item]:
        """What sound answers leave to be asked about."""
        sound = (row for row in rows if row.answer is not None and row.answer.status == OK)
        return [item for row in sound for item in self._next(row)]

    def _next(self, row: Row) -> list[Item]:
        """Of one answer."""
        item = replace(row.item, calls=(*row.item.calls, row.answer))
        values = row.answer.values
        if self.builder.kind == 'contexts':
            return [replace(item, context=_context(values), number=row.sample)]
        if self.builder.kind == 'counterfactual':
            return [
                replace(
                    item,
                    context=_context(values, f'{meant}_'),
                    number=row.sample,
                    side=side_of(item.statement, meant),
                    meant=meant,
                )
                for meant in SIDES
            ]
        return [item]


def side_of(statement: Statement, meant: str) -> Side:
    """Side of a context of a pair: a fair draw, so that the side tells nothing of the context."""
    flipped = seeded_number('cobra side', 0, statement.id) % 2
    return 'AB'[SIDES.index(meant) ^ flipped]


def _key(query: Query, sample: int) -> str:
    """Key of what is asked; teacher and sampling are the same in all of a run directory."""
    return row_key(query, '', Sampling(), sample)


def _context(values: Mapping[str, str], prefix: str = '') -> dict[str, str]:
    """The slots of a context."""
    return {slot: values[f'{prefix}{slot}'] for slot in CONTEXT}
