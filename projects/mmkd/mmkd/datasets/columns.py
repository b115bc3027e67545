"""Columns of large text tables, read piece by piece into arrays."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from mmdistill.core.errors import UserError, did_you_mean
from mmkd.datasets.tables import Column

CHUNK = 1 << 22
"""Bytes that are read at a time."""


@dataclass(frozen=True)
class Layout:
    """What is read of a table.

    Attributes:
        label: column of the class.
        classes: names of the classes, as they stand in the file.
        numeric: columns of numbers; None: all that are neither label nor categorical.
        categorical: columns of words.
        header: whether the first line names the columns.
        delimiter: between columns; fields may have quotes unless it is a tab.
    """

    label: Column
    classes: tuple[str, ...]
    numeric: tuple[Column, ...] | None
    categorical: tuple[Column, ...]
    header: bool
    delimiter: str


@dataclass
class Table:
    """Columns of N rows.

    Attributes:
        names: of the numeric columns; numbers where there is no header.
        numeric: ``(N, n)`` float64; an empty field is 0, what is infinite or no number stays so.
        codes: ``(N, c)`` int32, places of the words in ``words``.
        words: distinct words of every categorical column in the order of the file; an empty field
            is the empty word.
        labels: ``(N,)`` int64, classes.
    """

    names: list[Column]
    numeric: np.ndarray
    codes: np.ndarray
    words: list[list[str]]
    labels: np.ndarray


def read_columns(path: Path, layout: Layout, chunk: int = CHUNK) -> Table:
    """Reads a table; memory grows with the arrays, not with the text.

    Args:
        path: text in UTF-8, or the same compressed (``.gz``, ``.bz2``, ``.zst``).
        layout: what is wanted.
        chunk: bytes that are read at a time; a line must not be longer.

    Raises:
        UserError: no file or no row, a column that is missing or named twice, a field that is no
            number or no class, or a line with too few columns; the message names the line.
    """
    import pyarrow
    import pyarrow.csv

    begin = list(islice(_lines(path, layout.delimiter), 2))
    if len(begin) <= layout.header:
        raise UserError(f'{path}: ' + ('there is no row' if begin else 'the file is empty'))
    first, names = begin[0]
    skip = first if layout.header else 0
    label, numeric, categorical = _spots(path, layout, names)
    wanted = [*numeric, *categorical, label]
    types = {str(each): pyarrow.string() for each in wanted}
    types |= {str(each): pyarrow.float64() for each in numeric}
    words: list[dict[str, int]] = [{} for _ in categorical]
    parts, rows = [], 0
    try:
        with (
            pyarrow.input_stream(str(path)) as stream,
            pyarrow.csv.open_csv(
                stream,
                pyarrow.csv.ReadOptions(
                    use_threads=False,
                    block_size=chunk,
                    skip_rows=skip,
                    column_names=[str(each) for each in range(len(names))],
                ),
                pyarrow.csv.ParseOptions(
                    delimiter=layout.delimiter, quote_char=_quotes(layout.delimiter)
                ),
                pyarrow.csv.ConvertOptions(
                    column_types=types, include_columns=list(types), null_values=['']
                ),
            ) as batches,
        ):
            for batch in batches:
                found = _labels(batch.column(str(label)), layout.classes)
                if (found < 0).any():
                    row = int(np.argmax(found < 0))
                    _unknown(path, layout, rows + row, batch.column(str(label))[row].as_py())
                parts.append((_numbers(batch, numeric), _codes(batch, categorical, words), found))
                rows += len(found)
    except pyarrow.ArrowInvalid as error:
        if 'block' in str(error):
            message = f'{path}: a line is longer than {chunk} bytes; is the delimiter right?'
            raise UserError(message) from error
        raise UserError(_explained(str(error), path, layout, skip, names)) from error
    arrays = [np.concatenate(each) for each in zip(*parts, strict=True)]
    kept = [names[each] if layout.header else each for each in numeric]
    return Table(kept, arrays[0], arrays[1], [list(each) for each in words], arrays[2])


def _quotes(delimiter: str) -> str | bool:
    """The mark around fields; tables with tabs have none."""
    return False if delimiter == '\t' else '"'


def _lines(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Lines that are not blank, with the number of the line on which each ends."""
    import pyarrow

    quoting = csv.QUOTE_NONE if delimiter == '\t' else csv.QUOTE_MINIMAL
    with (
        pyarrow.input_stream(str(path)) as stream,
        io.TextIOWrapper(stream, encoding='utf-8-sig', errors='replace', newline='') as file,
    ):
        reader = csv.reader(file, delimiter=delimiter, quoting=quoting)
        for fields in reader:
            if fields:
                yield reader.line_num, fields


def _line(path: Path, layout: Layout, row: int) -> int:
    """Number of the line that has a row."""
    lines = islice(_lines(path, layout.delimiter), row + layout.header, None)
    return next(lines, (0, []))[0]


def _spots(
    path: Path, layout: Layout, names: Sequence[str]
) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Places of the label, the numeric and the categorical columns."""
    if layout.header and len(set(names)) < len(names):
        twice = next(each for n, each in enumerate(names) if each in names[:n])
        raise UserError(f'{path}: two columns are called {twice!r}; rename one')

    def place(column: Column) -> int:
        if isinstance(column, int):
            if not -len(names) <= column < len(names):
                raise UserError(f'{path}: there is no column {column}; it has {len(names)}')
            return column % len(names)
        if not layout.header:
            raise UserError(f'{path}: there is no column {column!r}: header is False')
        if column not in names:
            near = did_you_mean(column, names)
            raise UserError(f'{path}: there is no column {column!r}{near}; it has {list(names)}')
        return list(names).index(column)

    label = place(layout.label)
    categorical = tuple(map(place, layout.categorical))
    if layout.numeric is None:
        others = {label, *categorical}
        numeric = tuple(each for each in range(len(names)) if each not in others)
    else:
        numeric = tuple(map(place, layout.numeric))
    used = [label, *numeric, *categorical]
    for n, each in enumerate(used):
        if each in used[:n]:
            what = repr(names[each]) if layout.header else each
            raise UserError(
                f'{path}: column {what} is named twice among label, numeric and categorical'
            )
    return label, numeric, categorical


def _numbers(batch: Any, columns: Sequence[int]) -> np.ndarray:
    """Numeric columns of some rows; empty fields are 0."""
    found = np.empty((batch.num_rows, len(columns)))
    for n, each in enumerate(columns):
        found[:, n] = batch.column(str(each)).fill_null(0.0).to_numpy(zero_copy_only=False)
    return found


def _codes(batch: Any, columns: Sequence[int], words: Sequence[dict[str, int]]) -> np.ndarray:
    """Places of words; new words are added."""
    found = np.empty((batch.num_rows, len(columns)), np.int32)
    for n, each in enumerate(columns):
        encoded = batch.column(str(each)).dictionary_encode()
        known = words[n]
        places = [known.setdefault(word, len(known)) for word in encoded.dictionary.to_pylist()]
        found[:, n] = np.array(places, np.int32)[encoded.indices.to_numpy()]
    return found


def _labels(texts: Any, classes: Sequence[str]) -> np.ndarray:
    """Classes by their names; -1 where there is no such class."""
    import pyarrow
    import pyarrow.compute

    trimmed = pyarrow.compute.utf8_trim_whitespace(texts)
    found = pyarrow.compute.index_in(trimmed, value_set=pyarrow.array(classes, pyarrow.string()))
    return found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)


def _unknown(path: Path, layout: Layout, row: int, text: str) -> NoReturn:
    """Refuses a label."""
    near = did_you_mean(text, layout.classes)
    raise UserError(
        f'{path}, line {_line(path, layout, row)}: label {text!r} is no class{near}; '
        f'labels are {list(layout.classes)}'
    )


def _explained(text: str, path: Path, layout: Layout, skip: int, names: Sequence[str]) -> str:
    """pyarrow's message with the line of the file and the name of the column."""
    row = re.search(r'Row #(\d+): ', text)
    if row is None:
        return f'{path}: {text}'
    place = f'{path}, line {_line(path, layout, int(row[1]) - 1 - skip)}'
    number = re.search(r"column #(\d+): .* to double: invalid value '(.*)'", text, re.DOTALL)
    if number is None:
        return f'{place}: {text[row.end() :]}; mend or remove the line'
    column = int(number[1])
    what = repr(names[column]) if layout.header else str(column)
    return f'{place}: {number[2]!r} in column {what} is no number'
