"""Brings the shards of a collection into one Parquet file, sorted and filtered."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from mmdistill.core.checkpoint_io import write_atomic
from mmdistill.core.errors import UserError
from mmkd.traces.external_sort import MEMORY, Conflicts, SortedTraces
from mmkd.traces.filters.base import Counts, TraceFilter, filtered
from mmkd.traces.importers import own_trace
from mmkd.traces.rows import Bad, Place, Row, read_records
from mmkd.traces.schema import ARROW, SCHEMA_VERSION, Trace, to_columns

METADATA = b'mmkd.traces'
"""Key of the metadata of a Parquet file under which :func:`read_metadata` finds its JSON."""
GROUP = 4096
"""Rows of a row group."""


def compact(
    shards: Sequence[str | Path],
    path: str | Path,
    filters: Sequence[TraceFilter] = (),
    convert: Callable[[Row, Place], Trace] = own_trace,
    conflicts: Conflicts = 'error',
    bad: Bad | None = None,
    memory: int = MEMORY,
    watch: Callable[[Iterator], Iterator] = iter,
) -> dict[str, Any]:
    """Merges traces into one Parquet file, sorted by ``source_uid``, then ``row_key``.

    Memory is bounded: traces are sorted on disk, beside the file, and written in row groups. The
    file appears as a whole or not at all, and does not depend on the order of the shards.

    Args:
        shards: JSON lines or Parquet files of traces.
        path: of the Parquet file.
        filters: that judge the sorted traces in this order.
        convert: makes a trace of a row; other layouts have theirs in
            :mod:`mmkd.traces.importers`.
        conflicts: what becomes of different rows with one ``row_key``: ``error`` or ``first``.
        bad: counts malformed rows; None: they are errors.
        memory: bytes of texts that are sorted at once.
        watch: sees the rows pass, first as they are read, then as they are written.

    Returns:
        What the metadata of the file says: ``schema_version``, ``inputs`` (name and ``sha256``),
        ``counts`` (``total``, by ``status`` and by teacher), ``repeats``, ``conflicting`` and
        ``bad`` rows that were left out.

    Raises:
        UserError: no such file, a malformed row, or rows that contradict each other.
    """
    path, shards = Path(path), [Path(each) for each in shards]
    if not shards:
        raise UserError('there are no traces to bring together; name their files')
    inputs = sorted((dict(file=each.name, sha256=file_digest(each)) for each in shards), key=str)
    path.parent.mkdir(parents=True, exist_ok=True)
    counts, about = Counts(), dict(schema_version=SCHEMA_VERSION, inputs=inputs)
    with tempfile.TemporaryDirectory(prefix=f'.{path.name}-', dir=path.parent) as scratch:
        rows = watch(_placed(shards, convert, bad))
        merged = SortedTraces(rows, Path(scratch), memory, conflicts)

        def told() -> dict[str, Any]:
            """The metadata, once all traces have passed."""
            about.update(
                counts=counts.as_dict(),
                repeats=merged.repeats,
                conflicting=merged.conflicting,
                bad=bad.count if bad else 0,
            )
            return about

        passing = filtered(watch(iter(merged)), filters, counts, GROUP)
        write_atomic(path, partial(_write, passing, told))
    return about


def write_parquet(traces: Iterable[Trace], path: str | Path, about: dict[str, Any]) -> None:
    """Writes traces in their order, at once or not at all.

    Args:
        traces: in any number.
        path: of the file.
        about: its metadata, JSON.
    """
    write_atomic(path, partial(_write, traces, lambda: about))


def read_parquet(path: str | Path) -> Iterator[Trace]:
    """Traces of a compacted file, in their order.

    Raises:
        UserError: there is no such file, or it has other columns.
    """
    return (trace for _, trace in read_records(path, own_trace))


def read_metadata(path: str | Path) -> dict[str, Any]:
    """What :func:`compact` says of its file.

    Raises:
        UserError: there is no such file, or it is none of :func:`compact`.
    """
    if not Path(path).is_file():
        raise UserError(f'{path}: there is no such file')
    try:
        content = (pq.read_metadata(path).metadata or {}).get(METADATA)
    except pa.ArrowInvalid as error:
        raise UserError(f'{path}: no Parquet file: {str(error).splitlines()[0]}') from None
    if content is None:
        raise UserError(f'{path}: has no metadata of traces; compact them first')
    return json.loads(content)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal.

    Raises:
        UserError: there is no such file.
    """
    if not path.is_file():
        raise UserError(f'{path}: there is no such file')
    found = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def _placed(
    shards: Sequence[Path], convert: Callable[[Row, Place], Trace], bad: Bad | None
) -> Iterator[tuple[str, Trace]]:
    """Traces of all shards with their places."""
    for shard in sorted(shards):
        both = read_records(shard, lambda row, place: (str(place), convert(row, place)), bad)
        yield from (placed for _, placed in both)


def _write(traces: Iterable[Trace], about: Callable[[], dict[str, Any]], file: BinaryIO) -> None:
    """Writes row groups, then the metadata, which may only be known by then."""
    source = iter(traces)
    with pq.ParquetWriter(file, ARROW, compression='zstd') as writer:
        while rows := [to_columns(each) for each in islice(source, GROUP)]:
            writer.write_table(pa.Table.from_pylist(rows, schema=ARROW), row_group_size=GROUP)
        writer.add_key_value_metadata({METADATA.decode(): json.dumps(about(), sort_keys=True)})
