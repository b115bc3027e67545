"""Sorts traces that do not fit into memory: sorted runs on disk, then a merge of them."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import numpy as np

from mmdistill.core.errors import UserError
from mmkd.traces.schema import Trace

MEMORY = 256 << 20
"""Bytes of texts that are sorted at once."""
Placed = tuple[str, str, str, str]
"""``source_uid``, ``row_key``, where the trace is from, and its JSON."""
Conflicts = Literal['error', 'first']


class SortedTraces:
    """Traces in the order of ``source_uid``, then ``row_key``, each row once.

    Rows of one ``row_key`` that are alike in everything are one row. Others are an error, or with
    ``conflicts='first'`` the first in this order stays; public data has the same question under
    several ids, and needs that.

    Args:
        traces: each with the place it is from, for messages.
        scratch: folder for the runs, which the caller removes.
        memory: bytes of texts that are sorted at once.
        conflicts: what becomes of different rows with one ``row_key``.

    Attributes:
        repeats: rows that were left out because they are alike.
        conflicting: rows that were left out though they differ.
    """

    def __init__(
        self,
        traces: Iterable[tuple[str, Trace]],
        scratch: Path,
        memory: int = MEMORY,
        conflicts: Conflicts = 'error',
    ) -> None:
        self.conflicts, self.repeats, self.conflicting = conflicts, 0, 0
        self.runs, keys = _write_runs(traces, scratch, memory)
        self._shared = _shared_keys(keys)

    def __iter__(self) -> Iterator[Trace]:
        seen: dict[str, tuple[str, str]] = {}
        with ExitStack() as files:
            runs = [_read_run(files.enter_context(path.open('rb'))) for path in self.runs]
            for _, key, where, text in heapq.merge(*runs):
                if bytes.fromhex(key) in self._shared:
                    if key in seen:
                        self._repeated(key, seen[key], (where, text))
                        continue
                    seen[key] = where, text
                yield Trace.model_validate_json(text)

    def _repeated(self, key: str, first: tuple[str, str], second: tuple[str, str]) -> None:
        """Counts a row that is left out, or refuses it."""
        if first[1] == second[1]:
            self.repeats += 1
        elif self.conflicts == 'first':
            self.conflicting += 1
        else:
            one, other = (json.loads(text) for _, text in (first, second))
            name = next(each for each in one if one[each] != other[each])
            raise UserError(
                f'{first[0]} and {second[0]} have the same row_key {key} but differ in {name}: '
                f'{one[name]!r:.40} and {other[name]!r:.40}; remove one of them'
            )


def _write_runs(
    traces: Iterable[tuple[str, Trace]], scratch: Path, memory: int
) -> tuple[list[Path], bytearray]:
    """Files of sorted rows, and 16 bytes of every row's key."""
    runs: list[Path] = []
    keys, rows, size = bytearray(), [], 0
    for where, trace in traces:
        text = trace.model_dump_json()
        rows.append((trace.source_uid, trace.row_key, where, text))
        keys += _key_bytes(trace.row_key, where)
        size += len(text) + 2 * len(where)
        if size >= memory:
            runs.append(_write_run(scratch / f'{len(runs)}.run', rows))
            rows, size = [], 0
    if rows:
        runs.append(_write_run(scratch / f'{len(runs)}.run', rows))
    return runs, keys


def _key_bytes(key: str, where: str) -> bytes:
    """A ``row_key`` as 16 bytes."""
    try:
        found = bytes.fromhex(key)
    except ValueError:
        found = b''
    if len(found) != 16:
        raise UserError(f'{where}: row_key must have 32 hexadecimal digits, got {key!r}')
    return found


def _write_run(path: Path, rows: list[Placed]) -> Path:
    """A file of rows, sorted."""
    with path.open('w', encoding='utf-8') as file:
        file.writelines(json.dumps(row) + '\n' for row in sorted(rows))
    return path


def _read_run(lines: Iterable[bytes]) -> Iterator[Placed]:
    """Rows of such a file."""
    return (tuple(json.loads(line)) for line in lines)


def _shared_keys(keys: bytearray) -> set[bytes]:
    """Keys that several rows have."""
    table = np.frombuffer(keys, np.dtype('V16'))
    order = np.lexsort(np.frombuffer(keys, np.uint64).reshape(-1, 2).T)
    same = table[order[1:]] == table[order[:-1]]
    return {each.tobytes() for each in table[order[1:][same]]}
