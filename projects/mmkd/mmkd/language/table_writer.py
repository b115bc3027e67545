"""Writes a table of tokens while examples come in: memory does not grow with their number."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mmdistill.core.checkpoint_io import sync_folder
from mmdistill.core.errors import UserError
from mmkd.language.templates import Template, template_of
from mmkd.language.token_table import ARRAYS, TokenTable, meta_of
from mmkd.language.tokenize import Encoded, Row, RowEncoder
from mmkd.traces.schema import KEY_LENGTH

Progress = Callable[[Mapping[str, int]], None]


class GrowingArray:
    """An ``.npy`` file of one dimension that values are appended to; a context manager.

    Args:
        path: of the file.
        dtype: of the values.
    """

    def __init__(self, path: Path, dtype: str) -> None:
        self.dtype, self.size = np.dtype(dtype), 0
        self._file = open(path, 'wb')  # noqa: SIM115
        self._write_header()

    def append(self, values: np.ndarray | Sequence[Any]) -> None:
        """Adds values at the end."""
        array = np.asarray(values, self.dtype)
        self._file.write(array.tobytes())
        self.size += len(array)

    def __enter__(self) -> GrowingArray:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Notes the size and puts everything on the disk, unless something went wrong."""
        with self._file:
            if kind is None:
                self._file.seek(0)
                self._write_header()
                self._file.flush()
                os.fsync(self._file.fileno())

    def _write_header(self) -> None:
        """Writes type and size; numpy leaves room, so that it is as long for any size."""
        kind = np.lib.format.dtype_to_descr(self.dtype)
        header = dict(descr=kind, fortran_order=False, shape=(self.size,))
        np.lib.format.write_array_header_1_0(self._file, header)


def write_table(
    folder: str | Path,
    rows: Iterable[Row],
    tokenizer: Any,
    template: str | Mapping[str, Any] | Template = 'plain',
    max_len: int = 2048,
    over_length: str = 'drop',
    source: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> TokenTable:
    """Makes a table in a folder, which is there as a whole or not at all.

    Args:
        folder: new or empty.
        rows: examples; read once.
        tokenizer: of ``transformers``.
        template: see :func:`mmkd.language.templates.template_of`.
        max_len: tokens of an example at most.
        over_length: see :class:`mmkd.language.tokenize.RowEncoder`.
        source: is noted when all rows are read; anything that JSON can hold.
        progress: is called with the counts so far.

    Raises:
        UserError: the folder is not empty or cannot be written, no example is left, or something
            that does not fit together.
    """
    folder = Path(folder)
    if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f'{folder} is there already: remove it or name another folder')
    encoder = RowEncoder(tokenizer, template_of(template), max_len, over_length)
    try:
        with _hidden(folder) as hidden:
            _write_arrays(hidden, encoder(rows), encoder.counts, progress)
            meta = meta_of(encoder, source)
            with open(hidden / 'meta.json', 'w') as file:
                json.dump(asdict(meta), file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            os.rename(hidden, folder)
            sync_folder(folder.parent)
    except OSError as error:
        raise UserError(f'{error.filename or folder}: {error.strerror}') from error
    return TokenTable.open(folder)


@contextlib.contextmanager
def _hidden(folder: Path) -> Iterator[Path]:
    """A folder of another name beside one; what is left of it in the end is removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    hidden = folder.with_name(f'.{folder.name}-{uuid.uuid4().hex}')
    hidden.mkdir()
    try:
        yield hidden
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _write_arrays(
    folder: Path,
    parts: Iterable[list[Encoded]],
    counts: Mapping[str, int],
    progress: Progress | None,
) -> None:
    """Writes the arrays."""
    end = 0
    with ExitStack() as stack:
        arrays = {
            name: stack.enter_context(GrowingArray(folder / f'{name}.npy', kind))
            for name, kind in ARRAYS.items()
        }
        arrays['offsets'].append([0])
        for part in parts:
            arrays['row_keys'].append([_key(each) for each in part])
            arrays['prompt_len'].append([each.prompt_len for each in part])
            for each in part:
                arrays['tokens'].append(each.tokens)
            ends = end + np.cumsum([len(each.tokens) for each in part], dtype=np.int64)
            arrays['offsets'].append(ends)
            end = arrays['tokens'].size
            if progress is not None:
                progress(counts)


def _key(row: Encoded) -> bytes:
    """A key as it is stored.

    Raises:
        UserError: it is too long.
    """
    key = row.key.encode()
    if len(key) > KEY_LENGTH:
        raise UserError(f'key {row.key!r} has {len(key)} bytes, at most {KEY_LENGTH} are kept')
    return key
