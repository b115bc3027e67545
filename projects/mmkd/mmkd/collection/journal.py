"""Traces in a file of JSON lines that only grows, and that a crash cannot damage.

A row is kept once :meth:`Journal.append` returns. A crash can cut off the last line at most, which
:func:`mend` removes; that row is asked for again.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from mmdistill.core.checkpoint_io import sync_folder, write_atomic
from mmdistill.core.errors import UserError
from mmkd.collection.shards import lock
from mmkd.traces.schema import Trace, read_record

_BLOCK = 1 << 16


class Journal:
    """Appends rows to a file; a context manager that closes it.

    Rows that are given together are committed together: one write, one ``fsync``.

    Args:
        path: the file; made where there is none, and mended where it ends in a torn line.

    Raises:
        UserError: another process writes to it, or it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise UserError(f'{path} cannot be opened: {error.strerror}') from None
        try:
            if not lock(self._file, path):
                raise UserError(f'{path}: another process writes to it; wait for it or end it')
            mend(path)
            self._size = os.fstat(self._file).st_size
            sync_folder(path.parent)
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._file)

    def append(self, rows: Sequence[bytes]) -> None:
        """Commits rows.

        Where the disk takes a part of them only, the whole ones among those are kept.

        Args:
            rows: lines of JSON, each with its end of line.

        Raises:
            UserError: they could not be written; the file has whole rows alone.
        """
        content, written = b''.join(rows), 0
        try:
            while written < len(content):
                written += os.write(self._file, content[written:])
            os.fsync(self._file)
        except OSError as error:
            self._cut(content[:written])
            raise UserError(self._failure(error)) from error
        self._size += len(content)

    def _cut(self, written: bytes) -> None:
        """Removes what there is of a row that was not written whole."""
        self._size += written.rfind(b'\n') + 1
        with suppress(OSError):  # the next start mends what is left
            os.ftruncate(self._file, self._size)
            os.fsync(self._file)

    def _failure(self, error: OSError) -> str:
        """What a user can do about it."""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = 'make room' if full else 'mend that'
        return (
            f'{self.path} cannot be written: {error.strerror}; {remedy} and run the same command '
            'again: all rows until now are kept, and it goes on after them'
        )


def encoded(trace: Trace) -> bytes:
    """A trace as a line of a journal."""
    return trace.model_dump_json().encode() + b'\n'


def read_journal(path: Path) -> Iterator[tuple[int, bytes, Trace]]:
    """Offset, line and trace of every row, also while another process appends.

    A last line that is torn is left out.

    Args:
        path: of the file.

    Raises:
        UserError: a line is no trace; the message names file and line.
    """
    offset = 0
    with path.open('rb') as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b'\n') and not _is_json(line):
                return
            if line.strip():
                yield offset, line, _row(line, path, number)
            if not line.endswith(b'\n'):
                return
            offset += len(line)


def mend(path: Path) -> int:
    """Removes a torn last line of a file that no other process writes to.

    A last line that lacks its end alone is completed.

    Args:
        path: of the file.

    Returns:
        Bytes that were removed.
    """
    with path.open('r+b') as file:
        start, line = _last_line(file)
        if not line or (line.endswith(b'\n') and _is_json(line)):
            return 0
        if _is_json(line):
            file.seek(0, os.SEEK_END)
            file.write(b'\n')
            removed = 0
        else:
            file.truncate(start)
            removed = len(line)
        file.flush()
        os.fsync(file.fileno())
        return removed


def drop_rows(path: Path, unwanted: Callable[[Trace], bool]) -> int:
    """Removes rows from a file that no other process writes to.

    Args:
        path: of the file; replaced at once, or left alone where it has no such row.
        unwanted: whether a row goes.

    Returns:
        Number of rows that were removed.

    Raises:
        UserError: a line is no trace, or the file cannot be written.
    """
    count = sum(unwanted(trace) for _, _, trace in read_journal(path))
    if not count:
        return 0

    def write(file: BinaryIO) -> None:
        """Writes the rows that stay."""
        file.writelines(line for _, line, trace in read_journal(path) if not unwanted(trace))

    try:
        write_atomic(path, write)
    except OSError as error:
        raise UserError(f'{path} cannot be written anew: {error.strerror}; make room') from None
    return count


def _is_json(line: bytes) -> bool:
    """Whether a line can be read at all: no beginning of a JSON object can."""
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _row(line: bytes, path: Path, number: int) -> Trace:
    """The trace of a line."""
    try:
        return read_record(Trace, line, f'{path}:{number}')
    except UserError as error:
        raise UserError(f'{error}; mend or remove the line, its question is asked again') from None


def _last_line(file: BinaryIO) -> tuple[int, bytes]:
    """Offset and content of the last line of a file, empty where the file is."""
    end = file.seek(0, os.SEEK_END)
    tail, start = b'', end
    while start and b'\n' not in tail[:-1]:
        start = max(0, start - _BLOCK)
        file.seek(start)
        tail = file.read(end - start)
    offset = tail[:-1].rfind(b'\n') + 1
    return start + offset, tail[offset:]
