"""Draws the questions of the second stage from those that the first has answers to.

Orca's FLAN-1M is drawn at random from the questions of FLAN-5M (arXiv:2306.02707); how they were
drawn is not told. Here those with the smallest hashes are taken, which is a random draw that does
not depend on the order of the rows, and of which a smaller one is a part.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from mmdistill.core.checkpoint_io import write_atomic
from mmdistill.core.errors import UserError
from mmkd.collection.journal import read_journal
from mmkd.collection.shards import shard_files
from mmkd.traces.hashing import seeded_number
from mmkd.traces.schema import Query, Trace, read_record

Spot = tuple[int, int]
"""Number of a file and offset in it."""


def select_queries(folder: Path, count: int, seed: int, out: Path) -> None:
    """Writes a file of questions that have an answer with status ``ok``, in random order.

    Memory grows with ``count`` alone.

    Args:
        folder: run directory of the first stage.
        count: of different questions, exact.
        seed: another one draws others.
        out: JSON lines of :class:`mmkd.traces.schema.Query`, there at once or not at all.

    Raises:
        UserError: there are no traces, or answers to fewer questions than are wanted.
    """
    files = shard_files(folder)
    if not files:
        raise UserError(f'{folder}: there are no traces of a first stage in it')
    chosen = _smallest(files, count, seed)
    if len(chosen) < count:
        raise UserError(
            f'{folder}: {count} questions are wanted, {len(chosen)} have an answer with status ok'
        )

    def write(file: BinaryIO) -> None:
        """Writes the questions by their hashes."""
        for _, (number, offset) in sorted(chosen.items()):
            file.write(_query_at(files[number], offset).model_dump_json().encode() + b'\n')

    write_atomic(out, write)


def _smallest(files: Sequence[Path], count: int, seed: int) -> dict[int, Spot]:
    """Where the questions with the smallest hashes are."""
    chosen: dict[int, Spot] = {}
    largest: list[int] = []
    for number, path in enumerate(files):
        for offset, _, trace in read_journal(path):
            if trace.status != 'ok':
                continue
            value = seeded_number('stage two', seed, trace.query_key)
            if value in chosen:
                continue
            if len(chosen) < count:
                heapq.heappush(largest, -value)
            elif value < -largest[0]:
                del chosen[-heapq.heapreplace(largest, -value)]
            else:
                continue
            chosen[value] = number, offset
    return chosen


def _query_at(path: Path, offset: int) -> Query:
    """The question of a row."""
    with path.open('rb') as file:
        file.seek(offset)
        trace = read_record(Trace, file.readline(), f'{path}, byte {offset}')
    return Query(**{name: getattr(trace, name) for name in Query.model_fields})
