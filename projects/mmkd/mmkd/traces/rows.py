"""Rows of JSON lines and Parquet files, one at a time, and records that are made of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmdistill.core.errors import UserError

Row = Mapping[str, Any]
Made = TypeVar('Made')
PARQUET = ('.parquet', '.pq')
BATCH = 1024
"""Rows of a Parquet file that are in memory at once."""


@dataclass(frozen=True)
class Place:
    """Where a row is: its file, and the number of its line or row from 1."""

    path: Path
    number: int

    def __str__(self) -> str:
        return f'{self.path}:{self.number}'


@dataclass
class Bad:
    """Rows that were left out because they are malformed.

    Attributes:
        count: of them.
        first: what is wrong with the first one.
    """

    count: int = 0
    first: str = ''

    def add(self, error: UserError) -> None:
        """Counts one."""
        self.first = self.first or str(error)
        self.count += 1


def read_records(
    path: str | Path,
    convert: Callable[[Row, Place], Made],
    bad: Bad | None = None,
    keep: np.ndarray | None = None,
) -> Iterator[tuple[int, Made]]:
    """Records of a file, each with the number of its row from 0; blank lines are no rows.

    Args:
        path: of a Parquet file (``.parquet``), or else of JSON lines.
        convert: makes a record of a row, or raises a UserError that names the place.
        bad: counts malformed rows and leaves them out; None: they are errors.
        keep: ``(N,)`` bool, rows that are wanted, others and later ones are not even parsed; None:
            all.

    Raises:
        UserError: there is no such file, or a row is malformed; the message names file and line.
    """
    path = Path(path)
    for number, place, content in _raw(path, keep):
        try:
            yield number, convert(_parsed(content, place), place)
        except UserError as error:
            if bad is None:
                raise
            bad.add(error)


def text_of(row: Row, name: str, place: Place, default: str | None = None) -> str:
    """A text of a row.

    Args:
        row: with the text.
        name: of its column.
        place: for the message.
        default: what stands in for a missing or null value; None: it is an error.

    Raises:
        UserError: it is missing, or no text that can be stored.
    """
    value = row.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        what = 'is missing' if value is None else f'must be a text, got {value!r:.60}'
        raise UserError(f'{place}: {name} {what}')
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(f'{place}: {name} has half of a surrogate pair') from None
    return value


def _parsed(content: bytes | Row, place: Place) -> Row:
    """A row as a mapping."""
    if not isinstance(content, bytes):
        return content
    try:
        row = json.loads(content)
    except ValueError as error:
        raise UserError(f'{place}: no JSON: {error}') from None
    if not isinstance(row, dict):
        raise UserError(f'{place}: must be a JSON object, got {row!r:.60}')
    return row


def _raw(path: Path, keep: np.ndarray | None) -> Iterator[tuple[int, Place, bytes | Row]]:
    """Number, place and content of the rows that are wanted."""
    if not path.is_file():
        raise UserError(f'{path}: there is no such file')
    if path.suffix.lower() in PARQUET:
        yield from _parquet_rows(path, keep)
        return
    number = -1
    with path.open('rb') as file:
        for line_number, line in enumerate(file, 1):
            if line.strip():
                number += 1
                if keep is None or (number < len(keep) and keep[number]):
                    yield number, Place(path, line_number), line


def _parquet_rows(path: Path, keep: np.ndarray | None) -> Iterator[tuple[int, Place, Row]]:
    """The same of a Parquet file."""
    try:
        with pq.ParquetFile(path) as file:
            start = 0
            for batch in file.iter_batches(BATCH):
                wanted = np.full(len(batch), keep is None)
                if keep is not None:
                    part = keep[start : start + len(batch)]
                    wanted[: len(part)] = part
                numbers = start + np.flatnonzero(wanted)
                start += len(batch)
                rows = batch.filter(pa.array(wanted)).to_pylist()
                for number, row in zip(numbers.tolist(), rows, strict=True):
                    yield number, Place(path, number + 1), row
    except pa.ArrowInvalid as error:
        raise UserError(f'{path}: no Parquet file: {str(error).splitlines()[0]}') from None
