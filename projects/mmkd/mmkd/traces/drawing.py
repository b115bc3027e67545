"""Draws queries from files that are larger than memory: once over all rows, once for the chosen.

The first pass keeps 28 bytes of a row (key, task, number); texts are only held one at a time.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmdistill.core.errors import UserError
from mmkd.traces.hashing import seeded_hash, seeded_number
from mmkd.traces.recipe import Recipe
from mmkd.traces.rows import Bad, Place, Row, read_records
from mmkd.traces.sampling import pick, repeated
from mmkd.traces.schema import Query

Convert = Callable[[Row, Place], Query]


@dataclass
class Drawn:
    """Which rows of some files are drawn.

    Attributes:
        files: in the order of the passes.
        masks: of each file ``(N,)`` bool, by number of its row.
        summary: counts, see :func:`draw`.
    """

    files: list[Path]
    masks: list[np.ndarray]
    summary: dict[str, Any]

    def __len__(self) -> int:
        return sum(int(mask.sum()) for mask in self.masks)

    def queries(self, convert: Convert) -> Iterator[Query]:
        """The second pass: drawn queries, in the order of the files.

        Args:
            convert: as in the first pass.
        """
        for path, mask in zip(self.files, self.masks, strict=True):
            for _, query in read_records(path, convert, keep=mask):
                yield query


@dataclass
class _Index:
    """What the first pass keeps of the rows that can be drawn."""

    keys: bytearray = field(default_factory=bytearray)
    tasks: array = field(default_factory=lambda: array('i'))
    rows: array = field(default_factory=lambda: array('q'))
    names: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, key: bytes, task: tuple[str, str], row: int) -> None:
        """A row."""
        self.keys += key
        self.tasks.append(self.names.setdefault(task, len(self.names)))
        self.rows.append(row)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[tuple[str, str]]]:
        """Keys ``(N, 2)``, tasks ``(N,)``, rows ``(N,)``, and names in alphabetical order."""
        names = sorted(self.names)
        new = np.zeros(len(names), np.int64)
        for number, name in enumerate(names):
            new[self.names[name]] = number
        keys = np.frombuffer(self.keys, '>u8').reshape(-1, 2).astype(np.uint64)
        return keys, new[np.asarray(self.tasks, np.int64)], np.asarray(self.rows, np.int64), names


def draw(
    files: Sequence[str | Path],
    convert: Convert,
    recipe: Recipe,
    seed: int = 0,
    bad: Bad | None = None,
    watch: Callable[[Iterator], Iterator] = iter,
) -> Drawn:
    """The first pass: what a recipe draws; the same queries in any order of files and rows.

    The summary has, by sub-collection, ``parts`` (algorithm, tasks, queries that could be drawn,
    used up tasks, and drawn queries) and ``left_out`` (how many queries for which reason, see
    :meth:`Recipe.left_out`; ``duplicate`` has a ``source_uid`` that is there already, ``not_drawn``
    is what the algorithm leaves).

    Args:
        files: of queries.
        convert: makes a query of a row.
        recipe: of the mixture.
        seed: another one draws others.
        bad: counts malformed rows; None: they are errors.
        watch: sees the rows pass, for progress.

    Raises:
        UserError: a malformed row, or no such file.
    """
    index, left_out, lengths = _Index(), Counter(), []
    for row, query in _scan(files, convert, bad, watch, lengths):
        reason = recipe.left_out(query)
        if reason:
            left_out[query.sub_collection, reason] += 1
            continue
        key = seeded_hash('drawing', seed, query.source_uid)
        index.add(key, (query.sub_collection, query.task_name), row)
    keys, tasks, rows, names = index.arrays()
    again = repeated(keys, tasks)
    for task, count in Counter(tasks[again].tolist()).items():
        left_out[names[task][0], 'duplicate'] += count
    keys, tasks, rows = keys[~again], tasks[~again], rows[~again]
    quotas, parts = _quotas(names, np.bincount(tasks, minlength=len(names)), recipe, seed)
    for name, part in parts.items():
        left_out[name, 'not_drawn'] += part['available'] - part['drawn']
    reasons: dict[str, dict[str, int]] = {}
    for (collection, reason), count in sorted(left_out.items()):
        if count:
            reasons.setdefault(collection, {})[reason] = count
    chosen = rows[pick(keys, tasks, quotas)]
    return _drawn(files, lengths, chosen, dict(parts=parts, left_out=reasons))


def _quotas(
    names: list[tuple[str, str]], sizes: np.ndarray, recipe: Recipe, seed: int
) -> tuple[np.ndarray, dict[str, dict[str, Any]]]:
    """Queries ``(T,)`` of each task that are drawn, and what is said of each part."""
    quotas, about = np.zeros(len(names), np.int64), {}
    collections = np.array([name for name, _ in names])
    for name, part in recipe.parts.items():
        mine = np.flatnonzero(collections == name)
        random = np.random.default_rng(seeded_number('quotas', seed, name))
        quotas[mine] = part.quotas(sizes[mine], random)
        about[name] = dict(
            **part.model_dump(exclude_none=True),
            tasks=len(mine),
            available=int(sizes[mine].sum()),
            drawn=int(quotas[mine].sum()),
            used_up=int((quotas[mine] == sizes[mine]).sum()),
        )
    return quotas, about


def draw_subset(
    files: Sequence[str | Path],
    convert: Convert,
    size: int,
    seed: int = 0,
    bad: Bad | None = None,
    watch: Callable[[Iterator], Iterator] = iter,
) -> Drawn:
    """As many queries as are asked for, uniformly and with their system messages.

    This is the second stage of Orca: what the better teacher is asked is a part of what the first
    one was asked. Queries with the same ``query_key`` count once; the same are drawn in any order
    of files and rows, and a smaller subset is a part of a larger one.

    Args:
        files: of queries or traces.
        convert: makes a query of a row.
        size: queries.
        seed: another one draws others.
        bad: counts malformed rows; None: they are errors.
        watch: sees the rows pass, for progress.

    Raises:
        UserError: there are fewer queries, a malformed row, or no such file.
    """
    keys, ranks, rows, lengths = bytearray(), bytearray(), array('q'), []
    for row, query in _scan(files, convert, bad, watch, lengths):
        keys += seeded_hash('subset', seed, query.query_key)
        ranks += hashlib.blake2b(query.source_uid.encode(), digest_size=8).digest()
        rows.append(row)
    table = np.frombuffer(keys, '>u8').reshape(-1, 2).astype(np.uint64)
    once = ~repeated(table, np.frombuffer(ranks, '>u8'))
    available = int(once.sum())
    if size > available:
        raise UserError(f'{size} queries are asked for, but there are only {available}')
    one_task = np.zeros(available, np.int64)
    chosen = np.asarray(rows, np.int64)[once][pick(table[once], one_task, np.array([size]))]
    summary = dict(available=available, drawn=size, duplicates=len(once) - available)
    return _drawn(files, lengths, chosen, summary)


def _scan(
    files: Sequence[str | Path],
    convert: Convert,
    bad: Bad | None,
    watch: Callable[[Iterator], Iterator],
    lengths: list[int],
) -> Iterator[tuple[int, Query]]:
    """Queries of all files, numbered across them; rows of each are counted in ``lengths``."""
    for path in files:
        start, length = sum(lengths), 0
        for number, query in watch(read_records(path, convert, bad)):
            length = number + 1
            yield start + number, query
        lengths.append(length)


def _drawn(
    files: Sequence[str | Path], lengths: list[int], rows: np.ndarray, summary: dict[str, Any]
) -> Drawn:
    """The result, with the rows that are drawn as a mask of each file."""
    mask = np.zeros(sum(lengths), bool)
    mask[rows] = True
    masks = np.split(mask, np.cumsum(lengths)[:-1]) if lengths else []
    return Drawn([Path(each) for each in files], masks, summary)
