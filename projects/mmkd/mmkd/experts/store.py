"""Trajectories of experts on disk: a folder of arrays that many processes fill and read."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmdistill.core.checkpoint_io import sync_folder, write_atomic
from mmdistill.core.errors import UserError
from mmkd.experts.claims import claimed_byte

VERSION = 1
_ABSENT = object()


@dataclass(frozen=True)
class _Meta:
    """What ``meta.json`` says."""

    about: dict[str, Any]
    experts: int
    epochs: int
    size: int
    buffer_size: int
    names: list[str]
    shapes: list[list[int]]
    version: int = VERSION

    def arrays(self) -> dict[str, tuple[tuple[int, ...], type]]:
        """Shape and type of every array."""
        snapshots = (self.experts, self.epochs + 1)
        found = dict(
            theta=((*snapshots, self.size), np.float32),
            buffers=((*snapshots, self.buffer_size), np.float32),
            scores=(snapshots, np.float32),
            progress=((self.experts,), np.int32),
            done=((self.experts,), np.uint8),
        )
        if not self.buffer_size:
            del found['buffers']
        return found


class TrajectoryStore:
    """Snapshots of K experts after 0 to E epochs, P parameters and Q running statistics each.

    Arrays are mapped into memory: a segment is read as two rows, and a store is pickled as the
    name of its folder. A snapshot counts once it is on the disk, and an expert can be read once all
    of its snapshots do, so a kill or a power failure never leaves a damaged expert behind.

    Made by :meth:`create_or_open` and :meth:`open`.

    Attributes:
        folder: where it is: ``meta.json``, ``claims``, ``theta.npy`` ``(K, E+1, P)``,
            ``buffers.npy`` ``(K, E+1, Q)``, ``scores.npy`` ``(K, E+1)``, ``progress.npy`` and
            ``done.npy`` ``(K,)``.
        about: what the trajectories depend on, as JSON has it.
        experts: K.
        epochs: E.
        size: P.
        buffer_size: Q.
        names: of the parameters, in their order; may be empty.
        shapes: of the parameters; may be empty.
    """

    def __init__(self, folder: Path, meta: _Meta) -> None:
        self.folder, self.about = folder, meta.about
        self.experts, self.epochs, self.size = meta.experts, meta.epochs, meta.size
        self.buffer_size, self.names = meta.buffer_size, tuple(meta.names)
        self.shapes = tuple(tuple(each) for each in meta.shapes)
        self._meta, self._maps = meta, {}
        for name in meta.arrays():
            self._array(name)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the mapped arrays, which are mapped again when they are needed."""
        return {**self.__dict__, '_maps': {}}

    @classmethod
    def create_or_open(
        cls,
        folder: str | Path,
        about: Mapping[str, Any],
        experts: int,
        epochs: int,
        size: int,
        buffer_size: int = 0,
        names: Sequence[str] = (),
        shapes: Sequence[Sequence[int]] = (),
    ) -> TrajectoryStore:
        """The store in a folder, made where there is none; several processes may do it at once.

        Args:
            folder: of the store.
            about: what the trajectories depend on; anything that JSON can hold.
            experts: K.
            epochs: E.
            size: P.
            buffer_size: Q.
            names: of the parameters, in their order.
            shapes: of the parameters.

        Raises:
            UserError: the folder has a store that differs in any of it, or something else.
        """
        folder = Path(folder)
        rows = [list(each) for each in shapes]
        meta = _Meta(_plain(about), experts, epochs, size, buffer_size, list(names), rows)
        if min(experts, epochs, size) < 1 or buffer_size < 0:
            raise UserError(
                f'{folder}: experts, epochs and parameters must be at least 1, got {experts}, '
                f'{epochs} and {size}, with {buffer_size} running statistics'
            )
        if shapes and sum(math.prod(each) for each in shapes) != size:
            raise UserError(f'{folder}: the shapes of parameters do not add up to {size}')
        if not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir())):
            _publish(folder, meta)
        if not (folder / 'meta.json').is_file():
            raise UserError(f'{folder} is neither empty nor a store: name another folder')
        store = cls.open(folder)
        if experts > store.experts:
            raise UserError(
                f'{folder} has room for {store.experts} experts, {experts} are asked for; a store '
                'cannot grow: name another folder'
            )
        _compare(folder, asdict(store._meta), asdict(meta))
        return store

    @classmethod
    def open(cls, folder: str | Path, about: Mapping[str, Any] | None = None) -> TrajectoryStore:
        """The store in a folder.

        Args:
            folder: of the store.
            about: keys that must have these values; others may have any.

        Raises:
            UserError: there is no store, a damaged one, or one with other values.
        """
        folder = Path(folder)
        if not (folder / 'meta.json').is_file():
            raise UserError(f'{folder}: there are no trajectories in it; train experts first')
        try:
            content = json.loads((folder / 'meta.json').read_text())
            version = dict(content).get('version', VERSION)
            if version != VERSION:
                raise UserError(f'{folder} has version {version} of the format, not {VERSION}')
            meta = _Meta(**content)
            meta.arrays()
        except UserError:
            raise
        except (ValueError, TypeError) as error:
            raise UserError(
                f'{folder / "meta.json"} is damaged: {error}; restore it or remove the folder'
            ) from error
        if about is not None:
            given = _plain(about)
            own = {key: value for key, value in meta.about.items() if key in given}
            _compare(folder, dict(about=own), dict(about=given))
        return cls(folder, meta)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(self._array(name).nbytes for name in self._meta.arrays())

    def _file(self, name: str) -> Path:
        """Of an array."""
        return self.folder / f'{name}.npy'

    def _array(self, name: str) -> np.ndarray:
        """An array, mapped read-only; what any process writes is seen in it."""
        if name not in self._maps:
            path, (shape, kind) = self._file(name), self._meta.arrays()[name]
            try:
                found = np.load(path, mmap_mode='r', allow_pickle=False)
                what = f'it has {found.dtype} {found.shape} in {path.stat().st_size} bytes'
                whole = path.stat().st_size == found.offset + found.nbytes
            except (OSError, ValueError, EOFError, AttributeError) as error:
                found, what, whole = None, str(error), False
            wanted = (shape, np.dtype(kind), True)
            if not whole or (found.shape, found.dtype, found.flags.c_contiguous) != wanted:
                raise UserError(
                    f'{path} is damaged, {np.dtype(kind)} {shape} is expected: {what}; restore it '
                    'or remove the folder'
                )
            self._maps[name] = found
        return self._maps[name]

    def _put(self, name: str, place: tuple[int, ...], values: Any, sync: bool = True) -> None:
        """Writes values at an index of the first axes, to the disk itself if asked."""
        array, path = self._array(name), self._file(name)
        offset = array.offset + sum(n * s for n, s in zip(place, array.strides, strict=False))
        try:
            with open(path, 'r+b') as file:
                file.seek(offset)
                file.write(np.ascontiguousarray(values, array.dtype).tobytes())
                file.flush()
                if sync:
                    os.fsync(file.fileno())
        except OSError as error:
            raise UserError(f'{path} cannot be written: {error.strerror}') from error

    @contextmanager
    def claim(self, expert: int) -> Iterator[bool]:
        """Takes an expert, so that no other process trains it; a dead process has no claims.

        Args:
            expert: number.

        Returns:
            A context; its value is whether the expert is unfinished and nobody else has it.

        Raises:
            UserError: no such expert, or a file system that cannot lock.
        """
        self._check(expert)
        with claimed_byte(self.folder / 'claims', expert) as mine:
            yield mine and not bool(self._array('done')[expert])

    def write(
        self,
        expert: int,
        epoch: int,
        theta: Tensor,
        buffers: Tensor | None = None,
        score: float | None = None,
    ) -> None:
        """Puts a snapshot on the disk; later ones of the expert no longer count.

        Args:
            expert: number; not a finished one.
            epoch: number, at most one more than the last that was written.
            theta: parameters ``(P,)``, kept as float32.
            buffers: running statistics ``(Q,)``; may be None without any.
            score: accuracy; None: not measured.

        Raises:
            UserError: other sizes, a finished expert, an epoch that is not next, a full disk.
        """
        self._check(expert, epoch)
        rows = dict(theta=theta) if buffers is None else dict(theta=theta, buffers=buffers)
        sizes = dict(theta=self.size, buffers=self.buffer_size)
        for name, size in sizes.items():
            found = tuple(rows[name].shape) if name in rows else (0,)
            if found != (size,):
                raise UserError(f'{self.folder}: {name} must be ({size},), got {found}')
        if self._array('done')[expert]:
            raise UserError(f'{self.folder}: expert {expert} is finished and is not changed')
        written = self.written(expert)
        if epoch > written:
            raise UserError(
                f'{self.folder}: snapshot {written} of expert {expert} comes next, not {epoch}'
            )
        if epoch < written:
            self._put('progress', (expert,), epoch)
        for name, values in rows.items():
            if sizes[name]:
                self._put(name, (expert, epoch), values.detach().float().cpu().numpy())
        self._put('scores', (expert, epoch), math.nan if score is None else score, sync=False)
        self._put('progress', (expert,), epoch + 1, sync=False)

    def finish(self, expert: int) -> None:
        """Declares an expert finished: from now on it can be read.

        Args:
            expert: number.

        Raises:
            UserError: some of its snapshots were not written.
        """
        self._check(expert)
        if self.written(expert) <= self.epochs:
            raise UserError(
                f'{self.folder}: expert {expert} has {self.written(expert)} of '
                f'{self.epochs + 1} snapshots and cannot be finished'
            )
        for name in self._meta.arrays():
            with open(self._file(name), 'r+b') as file:
                os.fsync(file.fileno())
        self._put('done', (expert,), 1)

    def finished(self) -> list[int]:
        """Experts that can be read."""
        return np.flatnonzero(self._array('done')).tolist()

    def unfinished(self) -> list[int]:
        """All others."""
        return np.flatnonzero(self._array('done') == 0).tolist()

    def written(self, expert: int) -> int:
        """Number of snapshots of an expert that are whole, the first ones."""
        self._check(expert)
        return int(self._array('progress')[expert])

    def segment(self, expert: int, start: int, length: int) -> tuple[Tensor, Tensor]:
        """Parameters ``(P,)`` of a finished expert after an epoch and ``length`` epochs later.

        Raises:
            UserError: an unfinished expert, or epochs that there are not.
        """
        for epoch in (start, start + length):
            self._check_readable(expert, epoch)
        return self._row('theta', expert, start), self._row('theta', expert, start + length)

    def snapshot(self, expert: int, epoch: int, partial: bool = False) -> tuple[Tensor, Tensor]:
        """Parameters ``(P,)`` and running statistics ``(Q,)`` of an expert after an epoch.

        Args:
            expert: number.
            epoch: number.
            partial: also of an unfinished expert, to go on with its training.

        Raises:
            UserError: an unfinished expert, or an epoch that is not there.
        """
        self._check_readable(expert, epoch, partial)
        buffers = self._row('buffers', expert, epoch) if self.buffer_size else torch.empty(0)
        return self._row('theta', expert, epoch), buffers

    def score(self, expert: int, epoch: int) -> float:
        """Accuracy that was written with a snapshot of a finished expert; NaN: not measured."""
        self._check_readable(expert, epoch)
        return float(self._array('scores')[expert, epoch])

    def _row(self, name: str, expert: int, epoch: int) -> Tensor:
        """A copy of one row."""
        return torch.from_numpy(np.array(self._array(name)[expert, epoch]))

    def _check(self, expert: int, epoch: int = 0) -> None:
        """Refuses numbers out of range."""
        for what, number, end in (
            ('expert', expert, self.experts - 1),
            ('epoch', epoch, self.epochs),
        ):
            if not 0 <= number <= end:
                raise UserError(f'{self.folder}: there is no {what} {number}, only 0 to {end}')

    def _check_readable(self, expert: int, epoch: int, partial: bool = False) -> None:
        """Refuses what is not there yet."""
        self._check(expert, epoch)
        if self._array('done')[expert]:
            return
        if not partial:
            raise UserError(
                f'{self.folder}: expert {expert} is not finished; run its training again, it goes '
                'on where it was'
            )
        if epoch >= self.written(expert):
            raise UserError(
                f'{self.folder}: snapshot {epoch} of expert {expert} is not there, only '
                f'{self.written(expert)} are'
            )


def _publish(folder: Path, meta: _Meta) -> None:
    """Makes a store under another name and renames it, unless somebody was quicker."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    hidden = folder.with_name(f'.{folder.name}-{uuid.uuid4().hex}')
    hidden.mkdir()
    try:
        for name, (shape, kind) in meta.arrays().items():
            made = np.lib.format.open_memmap(hidden / f'{name}.npy', 'w+', kind, shape)
            if name == 'scores':
                made[:] = math.nan
            made.flush()
        (hidden / 'claims').touch()
        text = json.dumps(asdict(meta), indent=1)
        write_atomic(hidden / 'meta.json', lambda file: file.write(text.encode()))
        os.rename(hidden, folder)
        sync_folder(folder.parent)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise UserError(f'{folder} cannot be made: {error.strerror}') from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _plain(about: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON makes of it."""
    found = {}
    for key, value in about.items():
        try:
            found[str(key)] = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise UserError(
                f'{key} = {value!r} cannot be noted with the trajectories: {error}'
            ) from error
    return found


def _compare(folder: Path, saved: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuses the first value that differs."""
    saved, given = dict(_leaves(saved)), dict(_leaves(given))
    for key in [*given, *saved]:
        old, new = saved.get(key, _ABSENT), given.get(key, _ABSENT)
        if old != new:
            old, new = ('nothing' if each is _ABSENT else repr(each) for each in (old, new))
            raise UserError(
                f'{folder}: its experts have {key.removeprefix("about.")} = {old}, asked for is '
                f'{new}; name another folder, or remove this one to train anew'
            )


def _leaves(values: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Values that are no mappings, with dotted keys."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f'{prefix}{key}.')
        else:
            yield f'{prefix}{key}', value
