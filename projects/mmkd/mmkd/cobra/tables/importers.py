"""Frames from CSV files: the released ones of COBRA (arXiv 2306.01985), and our own.

Columns are found by their names, whatever their order; those that a frame has no place for go to
its ``extra``. The names of the released columns are those that public readers of the files use;
which of them a file has is taken from its header.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mmdistill.core.checkpoint_io import write_atomic
from mmdistill.core.errors import UserError, did_you_mean
from mmkd.cobra.schema import (
    ARROW,
    CONTEXT,
    SLOTS,
    Frame,
    frame_id,
    from_columns,
    statement_id,
    to_columns,
)
from mmkd.cobra.tables.csv_rows import find_columns, label_of, read_csv, require_consent
from mmkd.traces.rows import Place

RELEASED = {
    'statement': ('statement',),
    'situation': ('situationalContext', 'speechContext'),
    'speaker': ('speakerIdentity',),
    'listener': ('listenerIdentity',),
    'intent': ('intent',),
    'target_group': ('targetGroup',),
    'power': ('relevantPowerDynamics',),
    'implication': ('implication',),
    'emotional': ('targetGroupEmotionalReaction',),
    'cognitive': ('targetGroupCognitiveReaction',),
    'offensiveness': ('offensiveness',),
    'label_majority': ('offensive_majority',),
    'label_all': ('offensive_allapp',),
}
"""Slots and labels, and how released files spell them; ``moreOff_*`` is found by its beginning."""
NUMBERS = ('offensive_bin', 'label_majority', 'label_all', 'more_offensive')
MORE = 'moreOff'
OWN = {name: (name,) for name in ARROW.names}
OPTIONAL = ('group', 'pair_id', 'side')


def read_frames_csv(
    path: str | Path,
    *,
    source: str | None = None,
    accept_content_warning: bool = False,
    group_column: str = 'group',
) -> list[Frame]:
    """Frames of a released file, one for each record, in their order.

    Args:
        path: of the file. ``statement`` and the three columns of the context are needed; of the
            seven of the explanation, all or none.
        source: name of the data; None: the name of the file without its ending.
        accept_content_warning: True: you know that the statements are offensive.
        group_column: that names the group; ``group`` may be missing.

    Returns:
        Frames without a split. ``more_offensive`` is ``moreOff_majority``, or else the first
        ``moreOff*`` of the header. A frame that occurs again has ``#2`` after its id, and so on.

    Raises:
        UserError: no consent, a file that cannot be read, a missing, repeated or ambiguous column,
            or a label that is none.
    """
    require_consent(accept_content_warning)
    header, rows = read_csv(path)
    spellings = RELEASED | _more_offensive(header)
    columns = find_columns(path, header, spellings, needed_of(header, RELEASED))
    group_of = group_reader(path, header, group_column)
    used = {*columns.values(), group_column}
    name = Path(path).stem if source is None else source
    frames = []
    for place, cells in rows:
        row = dict(zip(header, cells, strict=True))
        values: dict[str, Any] = {
            key: label_of(row[column], place, column) if key in NUMBERS else row[column]
            for key, column in columns.items()
        }
        extra = {key: cell for key, cell in row.items() if key not in used}
        frames.append(frame_of(values, group=group_of(row), source=name, extra=extra))
    return with_unique_ids(frames)


def read_own_csv(
    path: str | Path, *, source: str | None = None, accept_content_warning: bool = False
) -> list[Frame]:
    """Frames of a file whose columns have the names of :data:`~mmkd.cobra.schema.ARROW`.

    ``statement``, ``situation``, ``speaker`` and ``listener`` are needed, of the seven slots all or
    none, others may be missing. An empty ``group``, ``pair_id`` or ``side`` is None.

    Args:
        path: of the file.
        source: name of the data; None: what the column says, or else the name of the file.
        accept_content_warning: True: you know that the statements may be offensive.

    Returns:
        Frames in their order, with ids of their own where the file has no ``frame_id``.

    Raises:
        UserError: as :func:`read_frames_csv`.
    """
    require_consent(accept_content_warning)
    header, rows = read_csv(path)
    columns = find_columns(path, header, OWN, needed_of(header, OWN))
    if source is None and 'source' not in columns:
        source = Path(path).stem
    frames = [_own_frame(dict(zip(header, cells, strict=True)), place) for place, cells in rows]
    if source is not None:
        frames = [frame.model_copy(update=dict(source=source)) for frame in frames]
    return frames if 'frame_id' in columns else with_unique_ids(frames)


def write_own_csv(path: str | Path, frames: Iterable[Frame]) -> None:
    """Writes a file for :func:`read_own_csv`, at once or not at all.

    Args:
        path: of the file.
        frames: in any number.
    """
    text = io.StringIO(newline='')
    writer = csv.DictWriter(text, ARROW.names, quoting=csv.QUOTE_ALL, lineterminator='\n')
    writer.writeheader()
    writer.writerows(to_columns(frame) for frame in frames)
    write_atomic(path, lambda file: file.write(text.getvalue().encode()))


def frame_of(values: Mapping[str, Any], **others: Any) -> Frame:
    """A frame of a statement, its context and whatever else, with the ids that these have."""
    statement = values['statement']
    ids = dict(frame_id=frame_id(statement, values), statement_id=statement_id(statement))
    return Frame(**ids, **values, **others)


def with_unique_ids(frames: Iterable[Frame]) -> list[Frame]:
    """The same frames; an id that has occurred already gets the next free ``#2``, ``#3``, ..."""
    taken: set[str] = set()
    counts: Counter = Counter()
    made = []
    for frame in frames:
        name, base = frame.frame_id, frame.frame_id.partition('#')[0]
        while name in taken:
            counts[base] += 1
            name = f'{base}#{counts[base] + 1}'
        taken.add(name)
        made.append(frame.model_copy(update=dict(frame_id=name)))
    return made


def needed_of(header: Sequence[str], spellings: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """What a file must have: statement and context, and all slots where it has one of them."""
    explained = any(column in header for slot in SLOTS for column in spellings[slot])
    return ('statement', *CONTEXT, *(SLOTS if explained else ()))


def group_reader(
    path: str | Path, header: Sequence[str], column: str
) -> Callable[[Mapping[str, str]], str | None]:
    """A function that tells the group of a row, None where the cell or the column is missing.

    Raises:
        UserError: ``column`` is missing, and is not the usual ``group``.
    """
    if column not in header and column != 'group':
        raise UserError(
            f'{path}: has no column {column}{did_you_mean(column, header)}; correct group_column'
        )
    return lambda row: row.get(column) or None


def _more_offensive(header: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The column that tells which of two contexts is worse."""
    columns = [name for name in header if name.startswith(MORE)]
    best = f'{MORE}_majority'
    if not columns:
        return {}
    return dict(more_offensive=(best if best in columns else columns[0],))


def _own_frame(row: dict[str, str], place: Place) -> Frame:
    """A row of :func:`read_own_csv` as a frame."""
    plain = frame_of(dict(statement=row['statement'], **{name: row[name] for name in CONTEXT}))
    values: dict[str, Any] = to_columns(plain)
    unknown = {name: cell for name, cell in row.items() if name not in values}
    values.update((name, cell) for name, cell in row.items() if name in values)
    for name in OPTIONAL:
        values[name] = values[name] or None
    for name in NUMBERS:
        values[name] = label_of(row.get(name, ''), place, name)
    values['provenance_attempts'] = values['provenance_attempts'] or 0
    values['extra'] = values['extra'] or '{}'
    try:
        frame = from_columns(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = '.'.join(str(each) for each in first['loc'])
        raise UserError(f'{place}: no frame: {key}: {first["msg"]}') from None
    except json.JSONDecodeError as error:
        raise UserError(f'{place}: extra must be JSON: {error}') from None
    return frame.model_copy(update=dict(extra=frame.extra | unknown))
