"""Rows of files: TSV as GLUE has it, JSON, JSON lines, Parquet, and folders of ``datasets``."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from mmdistill.core.errors import UserError, did_you_mean

Column = str | int
"""Name of a column, or its number from 0; negative numbers count from the end."""


def read_table(
    path: str | Path, columns: Sequence[Column], header: bool = True, skip_short: bool = False
) -> list[tuple[Any, ...]]:
    """Some columns of a table, row by row.

    Args:
        path: ``.tsv`` (no quotes, as GLUE), ``.json`` (a list of objects), ``.jsonl``,
            ``.parquet``, or a folder that ``datasets`` saved.
        columns: what is wanted; names need a header.
        header: whether the first line of a TSV names the columns.
        skip_short: leaves out lines of a TSV that have too few columns, and warns of how many.

    Returns:
        One tuple per row, in the order of the columns; blank lines of text files are left out.

    Raises:
        UserError: a file that is missing or of another kind, or a row or column that is missing;
            the message names file and line.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f'{path}: there is no such file')
    if path.is_dir():
        return _picked(_saved(path), columns, path)
    if path.suffix == '.tsv':
        return _tsv(path, columns, header, skip_short)
    if path.suffix == '.jsonl':
        return _picked(_json_lines(path), columns, path)
    if path.suffix == '.json':
        content = _parsed(path.read_text(encoding='utf-8'), str(path))
        if not isinstance(content, list):
            raise UserError(f'{path}: a list of objects is wanted, found {type(content).__name__}')
        return _picked(content, columns, path)
    if path.suffix == '.parquet':
        import pyarrow.parquet

        return _picked(pyarrow.parquet.read_table(path).to_pylist(), columns, path)
    raise UserError(f'{path}: unknown kind of table; known: .tsv, .json, .jsonl, .parquet, folder')


def _tsv(
    path: Path, columns: Sequence[Column], header: bool, skip_short: bool
) -> list[tuple[str, ...]]:
    """Columns of a file with tabs, with or without the mark of UTF-8 before its first line."""
    found, skipped = [], 0
    with path.open(encoding='utf-8-sig', newline='') as file:
        lines = csv.reader(file, delimiter='\t', quoting=csv.QUOTE_NONE)
        names = next(lines, []) if header else []
        numbers = [_number(path, names, each) for each in columns]
        for line in lines:
            if not any(line):
                continue
            short = any(not -len(line) <= number < len(line) for number in numbers)
            if skip_short and (short or len(line) < len(names)):
                skipped += 1
                continue
            if short:
                raise UserError(
                    f'{path}, line {lines.line_num}: {len(line)} columns, but {list(columns)} '
                    'are wanted; mend or remove the line'
                )
            found.append(tuple(line[number] for number in numbers))
    if skipped:
        message = f'{path}: {skipped} lines have too few columns and are left out'
        print_log(message, 'current', logging.WARNING)
    return found


def _number(path: Path, names: Sequence[str], column: Column) -> int:
    """Number of a column."""
    if isinstance(column, int):
        return column
    if column not in names:
        known = f'{did_you_mean(column, names)}; columns are {list(names)}' if names else ''
        raise UserError(f'{path}: there is no column {column!r}{known or "; it has no header"}')
    return names.index(column)


def _parsed(text: str, place: str) -> Any:
    """JSON."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f'{place}: this is no JSON: {error}') from error


def _json_lines(path: Path) -> Iterator[Any]:
    """One object per line."""
    for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), start=1):
        if line.strip():
            yield _parsed(line, f'{path}, line {number}')


def _saved(path: Path) -> Iterable[Mapping[str, Any]]:
    """Rows of a folder of ``save_to_disk``."""
    import datasets

    try:
        found = datasets.load_from_disk(str(path))
    except FileNotFoundError as error:
        raise UserError(f'{path}: no data set of datasets.save_to_disk: {error}') from error
    if isinstance(found, datasets.DatasetDict):
        raise UserError(f'{path}: there are several splits, name one: {sorted(found)}')
    return found


def _picked(rows: Iterable[Any], columns: Sequence[Column], path: Path) -> list[tuple[Any, ...]]:
    """Columns of objects, by name."""
    found = []
    for number, row in enumerate(rows, start=1):
        for column in columns:
            if not isinstance(row, Mapping) or column not in row:
                names = list(row) if isinstance(row, Mapping) else []
                raise UserError(
                    f'{path}, row {number}: there is no {column!r}'
                    f'{did_you_mean(str(column), names)}; there are {names}'
                )
        found.append(tuple(row[column] for column in columns))
    return found
