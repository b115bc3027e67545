"""Examples of the traces in Parquet files and JSON lines, a few at a time."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmdistill.core.errors import UserError
from mmkd.language.tokenize import Row
from mmkd.traces.schema import ARROW, Trace, read_record

PARQUET, LINES = '.parquet', '.jsonl'
COLUMNS = ('row_key', 'system_text', 'user_text', 'response_text', 'status')
ROWS = 4096
"""Rows of a Parquet file that are in memory at a time."""


class TraceRows:
    """The accepted traces of some files, in their order; to be read once.

    Args:
        paths: files, or folders whose files of one kind are read in the order of their names.

    Attributes:
        files: that are read.
        source: names and hashes of the files, and how many traces have which other status; the
            counts are whole when all is read.

    Raises:
        UserError: no such file, or a folder without traces or with both kinds.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.files = [file for path in paths for file in trace_files(Path(path))]
        hashes = [dict(name=file.name, sha256=file_sha256(file)) for file in self.files]
        self._skipped: Counter[str] = Counter()
        self.source: dict[str, Any] = dict(files=hashes, skipped=self._skipped)

    def __iter__(self) -> Iterator[Row]:
        """Rows whose status is ``ok``.

        Raises:
            UserError: a file that is no whole file of traces.
        """
        for file in self.files:
            read = _parquet if file.suffix == PARQUET else _lines
            for key, system, user, response, status in read(file):
                if status == 'ok':
                    yield Row(key, system, user, response)
                else:
                    self._skipped[status] += 1


def trace_files(path: Path) -> list[Path]:
    """Files of traces that a path names.

    Raises:
        UserError: see :class:`TraceRows`.
    """
    if not path.exists():
        raise UserError(f'{path}: there is no such file')
    if path.is_file():
        if path.suffix not in (PARQUET, LINES):
            raise UserError(f'{path}: traces are {PARQUET} or {LINES} files')
        return [path]
    found = {kind: sorted(path.glob(f'*{kind}')) for kind in (PARQUET, LINES)}
    if all(found.values()):
        raise UserError(
            f'{path} has {PARQUET} and {LINES} files, maybe of the same traces: name the files'
        )
    if not any(found.values()):
        raise UserError(f'{path}: there is no {PARQUET} or {LINES} file in it')
    return found[PARQUET] or found[LINES]


def file_sha256(path: Path) -> str:
    """Hash of a file, 64 hexadecimal digits."""
    hashed = hashlib.sha256()
    with open(path, 'rb') as file:
        while piece := file.read(1 << 20):
            hashed.update(piece)
    return hashed.hexdigest()


def _parquet(path: Path) -> Iterator[tuple[str, ...]]:
    """Columns of the rows of a file."""
    try:
        with pq.ParquetFile(path) as file:
            for name in COLUMNS:
                if name not in file.schema_arrow.names:
                    raise UserError(f'{path}: no traces: there is no column {name}')
                if file.schema_arrow.field(name).type != ARROW.field(name).type:
                    raise UserError(f'{path}: no traces: column {name} is no text')
            for part in file.iter_batches(ROWS, columns=list(COLUMNS)):
                for name in COLUMNS:
                    if part.column(name).null_count:
                        raise UserError(f'{path}: a row has no {name}')
                columns = [part.column(name).to_pylist() for name in COLUMNS]
                yield from zip(*columns, strict=True)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f'{path} cannot be read: {error}') from error


def _lines(path: Path) -> Iterator[tuple[str, ...]]:
    """The same of JSON lines."""
    with open(path, 'rb') as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                trace = read_record(Trace, line, f'{path}, line {number}')
                yield tuple(getattr(trace, name) for name in COLUMNS)
