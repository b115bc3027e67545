"""Tables of frames: Parquet files with a version, and JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from mmdistill.core.checkpoint_io import write_atomic
from mmdistill.core.errors import UserError
from mmkd.cobra.schema import ARROW, SCHEMA_VERSION, Frame, from_columns, to_columns
from mmkd.traces.rows import PARQUET
from mmkd.traces.schema import read_record

VERSION = b'mmkd.frames'
"""Key of the metadata of a Parquet file with the version of its columns."""
METADATA = b'mmkd.frames.about'
"""Key under which :func:`read_frames_metadata` finds its JSON."""
GROUP = 4096
"""Rows of a row group."""


def write_frames(
    path: str | Path, frames: Sequence[Frame], metadata: Mapping[str, Any] | None = None
) -> None:
    """Writes a Parquet file, at once or not at all; the same frames make the same bytes.

    Args:
        path: of the file, ``.parquet``.
        frames: in their order.
        metadata: JSON, about the whole table.

    Raises:
        UserError: two frames with one ``frame_id``, or another ending of the file.
    """
    path = Path(path)
    if path.suffix.lower() not in PARQUET:
        raise UserError(f'{path}: must end in {PARQUET[0]}')
    _check_ids(path, frames)
    about = json.dumps(dict(metadata or {}), sort_keys=True)

    def write(file: BinaryIO) -> None:
        """Row groups, then the metadata."""
        with pq.ParquetWriter(file, ARROW, compression='zstd') as writer:
            for start in range(0, len(frames), GROUP):
                rows = [to_columns(frame) for frame in frames[start : start + GROUP]]
                writer.write_table(pa.Table.from_pylist(rows, schema=ARROW), row_group_size=GROUP)
            writer.add_key_value_metadata({METADATA.decode(): about})

    write_atomic(path, write)


def read_frames(path: str | Path) -> list[Frame]:
    """Frames of a Parquet file (``.parquet``) or of JSON lines (``.jsonl``), in their order.

    Raises:
        UserError: no such file, another kind of file, another version of the columns, a missing or
            unknown column, a malformed row, or two frames with one ``frame_id``.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'{path}: there is no such file')
    if path.suffix.lower() in PARQUET:
        frames = list(_parquet_frames(path))
    elif path.suffix.lower() == '.jsonl':
        with path.open('rb') as file:
            frames = [
                read_record(Frame, line, f'{path}:{number}')
                for number, line in enumerate(file, 1)
                if line.strip()
            ]
    else:
        raise UserError(f'{path}: must end in {PARQUET[0]} or .jsonl; import CSV files first')
    _check_ids(path, frames)
    return frames


def read_frames_metadata(path: str | Path) -> dict[str, Any]:
    """What :func:`write_frames` was told about the table.

    Raises:
        UserError: there is no such file, or it is none of :func:`write_frames`.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'{path}: there is no such file')
    with _opened(path) as file:
        return json.loads((file.metadata.metadata or {}).get(METADATA, b'{}'))


def _opened(path: Path) -> pq.ParquetFile:
    """A Parquet file of frames whose columns are those of :data:`ARROW`."""
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise UserError(f'{path}: no Parquet file: {str(error).splitlines()[0]}') from None
    try:
        _check_columns(path, file.schema_arrow)
    except UserError:
        file.close()
        raise
    return file


def _check_columns(path: Path, schema: pa.Schema) -> None:
    """Version, names and types of the columns."""
    version = (schema.metadata or {}).get(VERSION)
    if version is None:
        raise UserError(f'{path}: is no table of frames; make it with tools/import_frames.py')
    if version != str(SCHEMA_VERSION).encode():
        raise UserError(
            f'{path}: has version {version.decode()} of the columns, this mmkd reads version '
            f'{SCHEMA_VERSION}; import the frames again or use the mmkd that wrote them'
        )
    missing = [name for name in ARROW.names if name not in schema.names]
    unknown = [name for name in schema.names if name not in ARROW.names]
    if missing or unknown:
        what = f'has no column {", ".join(missing)}' if missing else ''
        other = f'has unknown columns {", ".join(unknown)}' if unknown else ''
        raise UserError(f'{path}: {" and ".join(filter(None, (what, other)))}')
    for field in ARROW:
        kind = schema.field(field.name).type
        if kind != field.type:
            raise UserError(f'{path}: column {field.name} must be {field.type}, got {kind}')


def _parquet_frames(path: Path) -> Iterator[Frame]:
    """Frames of a Parquet file."""
    number = 0
    with _opened(path) as file:
        for batch in file.iter_batches(GROUP):
            for row in batch.to_pylist():
                number += 1
                try:
                    yield from_columns(row)
                except ValidationError as error:
                    first = error.errors()[0]
                    key = '.'.join(str(each) for each in first['loc'])
                    raise UserError(f'{path}:{number}: no frame: {key}: {first["msg"]}') from None
                except (json.JSONDecodeError, TypeError):
                    raise UserError(f'{path}:{number}: no frame: extra must be JSON') from None


def _check_ids(path: Path, frames: Sequence[Frame]) -> None:
    """No two frames have one id."""
    first: dict[str, int] = {}
    for number, frame in enumerate(frames, 1):
        if first.setdefault(frame.frame_id, number) != number:
            raise UserError(
                f'{path}: frames {first[frame.frame_id]} and {number} have the same frame_id '
                f'{frame.frame_id:.60}; ids must be unique'
            )
