"""Rows of CSV files: every cell as it is written, every record a row.

Table readers take ``None``, ``N/A`` or ``null`` for missing values. In frames such a word is an
answer ("not offensive" as a rule), so a cell is never anything but its text here. Messages name
files, lines and columns; the text of a cell is never part of them, save for a short wrong label.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from mmdistill.core.errors import UserError, did_you_mean
from mmkd.traces.rows import Place

LABELS = {'': None, '-1': -1, '-1.0': -1, '0': 0, '0.0': 0, '1': 1, '1.0': 1}
"""How labels are written, and what they are."""
SHOWN = 8
"""Characters of the longest wrong label that a message repeats."""
WARNING = (
    'the data hold offensive and hateful statements about groups of people, and explanations that '
    'a model has written from the view of one culture; they are no truth about anyone and serve '
    'neither automatic moderation nor profiling'
)


def require_consent(accepted: bool) -> None:
    """Stops those who have not said that they know what the data are.

    Raises:
        UserError: ``accepted`` is not True; the message says what the data hold and how to go on.
    """
    if accepted is not True:
        raise UserError(
            f'{WARNING}; to go on, pass accept_content_warning=True (--accept-content-warning)'
        )


def read_csv(path: str | Path) -> tuple[list[str], list[tuple[Place, list[str]]]]:
    """Header and records of a file in UTF-8, with or without a byte order mark.

    Args:
        path: of the file; blank lines are no records.

    Returns:
        Names of the columns, and for each record its place (the line where it begins) and cells.

    Raises:
        UserError: no such file, an empty one, not UTF-8, not CSV, or a record with another number
            of cells than the header.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'{path}: there is no such file')
    records = list(_records(path))
    if not records:
        raise UserError(f'{path}: is empty; it needs a header with the names of its columns')
    (_, header), *rows = records
    for place, cells in rows:
        if len(cells) != len(header):
            raise UserError(
                f'{place}: has {len(cells)} cells, the header has {len(header)}; look for a comma '
                'or a quote that is missing or too much, here or before'
            )
    return header, rows


def find_columns(
    path: str | Path,
    header: Sequence[str],
    spellings: Mapping[str, Sequence[str]],
    needed: Collection[str],
) -> dict[str, str]:
    """Which column of a file holds what, by name.

    Args:
        path: for the message.
        header: names of the columns.
        spellings: what may be there, with the names that its column may have.
        needed: those that must be there.

    Returns:
        Name of the column of each that is there.

    Raises:
        UserError: one that is needed is missing, one has two columns, or a name occurs twice.
    """
    found = {name: [each for each in known if each in header] for name, known in spellings.items()}
    for name in spellings:
        if name in needed and not found[name]:
            known = spellings[name]
            near = next(filter(None, (did_you_mean(each, header) for each in known)), '')
            raise UserError(f'{path}: has no column {" or ".join(known)}{near}; rename or add it')
    for name, columns in found.items():
        if len(columns) > 1:
            raise UserError(
                f'{path}: columns {" and ".join(columns)} are both the {name}; remove one'
            )
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise UserError(f'{path}: {twice[0]!r} names two columns; rename or remove one')
    return {name: columns[0] for name, columns in found.items() if columns}


def label_of(text: str, place: Place, column: str) -> int | None:
    """A label of annotators: -1, 0 or 1, and None where the cell is empty.

    Raises:
        UserError: it is something else; a long text is not repeated, but its length.
    """
    if text not in LABELS:
        got = repr(text) if len(text) <= SHOWN else f'a text of {len(text)} characters'
        raise UserError(f'{place}: {column} must be -1, 0, 1 or empty, got {got}')
    return LABELS[text]


def _records(path: Path) -> Iterator[tuple[Place, list[str]]]:
    """Cells of all records that are no blank lines, with their places."""
    reader = csv.reader(io.StringIO(_text(path), newline=''), strict=True)
    start = 1
    try:
        for cells in reader:
            if cells:
                yield Place(path, start), cells
            start = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f'{Place(path, start)}: is no record of CSV: {error}') from None


def _text(path: Path) -> str:
    """All of a file, without a byte order mark."""
    try:
        return path.read_bytes().decode('utf-8-sig')
    except UnicodeDecodeError as error:
        place = Place(path, error.object.count(b'\n', 0, error.start) + 1)
        raise UserError(f'{place}: is not UTF-8; convert the file') from None
