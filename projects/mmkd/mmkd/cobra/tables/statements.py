"""Statements of the user that a teacher is asked about. None is ever made here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mmdistill.core.errors import UserError
from mmkd.cobra.schema import statement_id
from mmkd.cobra.tables.csv_rows import find_columns, read_csv
from mmkd.traces.rows import PARQUET, Place, read_records, text_of

COLUMNS = ('statement', 'group', 'source', 'split')
"""Columns that are read; the first one is needed."""
SUFFIXES = ('.jsonl', '.csv', *PARQUET)


class Statement(NamedTuple):
    """A statement: its ``text``, the ``group`` that it is about, and its data's ``source``."""

    text: str
    group: str | None = None
    source: str = ''
    split: str = ''

    @property
    def id(self) -> str:
        """See :func:`mmkd.cobra.schema.statement_id`."""
        return statement_id(self.text)


def read_statements(path: str | Path) -> list[Statement]:
    """Different statements of a file, in their order; of equal ones the first counts.

    Args:
        path: of a file of JSON lines, CSV or Parquet with a column ``statement``, and ``group``,
            ``source`` and ``split`` where it has them. A table of frames is such a file.

    Raises:
        UserError: no such file, another kind of file, no statement in it, or an empty one; the
            message names the place, never the text.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f'{path}: statements are read from {", ".join(SUFFIXES)}; convert it')
    found: dict[str, Statement] = {}
    for each in _csv(path) if path.suffix.lower() == '.csv' else _rows(path):
        found.setdefault(each.text, each)
    if not found:
        raise UserError(f'{path}: there is no statement in it')
    return list(found.values())


def _csv(path: Path) -> Iterator[Statement]:
    """Statements of a CSV file."""
    header, rows = read_csv(path)
    columns = find_columns(path, header, {name: (name,) for name in COLUMNS}, COLUMNS[:1])
    for place, cells in rows:
        row = dict(zip(header, cells, strict=True))
        yield _statement({name: row[name] for name in columns}, place)


def _rows(path: Path) -> Iterator[Statement]:
    """Statements of another file."""
    return (each for _, each in read_records(path, _statement))


def _statement(row: Mapping[str, Any], place: Place) -> Statement:
    """The statement of a row."""
    if not isinstance(row.get('statement', ''), str):
        raise UserError(f'{place}: statement must be a text')
    text = text_of(row, 'statement', place)
    if not text.strip():
        raise UserError(f'{place}: statement is empty; fill it in or remove the row')
    others = [text_of(row, name, place, '') for name in COLUMNS[1:]]
    return Statement(text, others[0] or None, *others[1:])
