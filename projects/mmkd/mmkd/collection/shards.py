"""Shards of a run directory: which process asks what, and writes where.

A question belongs to a shard by its row key. Every shard has a file of its own, and what any file
has is not asked again: a run may go on with another number of shards. Locks are those of
``flock``, which end with their process; a network file system has to support them.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from mmdistill.core.errors import UserError


@dataclass(frozen=True)
class Shard:
    """A part of a run.

    Attributes:
        index: number, from 0.
        count: of all shards.
    """

    index: int = 0
    count: int = 1

    def owns(self, key: str) -> bool:
        """Whether the answer with a row key is asked for here."""
        return int(key, 16) % self.count == self.index

    def share(self, whole: int) -> int:
        """Its part of a number; the parts of all shards add up to the number."""
        return whole // self.count + (self.index < whole % self.count)

    def file(self, folder: Path) -> Path:
        """Where it writes."""
        return folder / f'traces-{self.index:05d}.jsonl'

    def lock(self, folder: Path) -> Path:
        """What it locks."""
        return folder / 'locks' / f'{self.index:05d}-of-{self.count:05d}'


def parse_shard(text: str) -> Shard:
    """A shard of ``index/count``, for instance ``0/4`` to ``3/4``.

    Raises:
        UserError: it is not of that form, or there is no such shard.
    """
    found = re.fullmatch(r'(\d+)/(\d+)', text)
    shard = Shard(int(found[1]), int(found[2])) if found else None
    if shard is None or shard.index >= shard.count:
        raise UserError(f'shard {text!r}: write index/count with an index from 0, such as 0/4')
    return shard


def shard_files(folder: Path, shard: Shard | None = None) -> list[Path]:
    """Files of all shards that there ever were, or those that a shard is to look after.

    Args:
        folder: the run directory.
        shard: none of its files is one that another shard of the same number writes to.
    """
    files = sorted(folder.glob('traces-*.jsonl'))
    if shard is None:
        return files
    numbers = [int(each.stem.rpartition('-')[2]) for each in files]
    return [
        file
        for file, number in zip(files, numbers, strict=True)
        if number % shard.count == shard.index
    ]


@contextmanager
def entry(folder: Path) -> Iterator[None]:
    """Keeps other processes from entering a run directory meanwhile; waits for its turn.

    Args:
        folder: the run directory; made where there is none.

    Raises:
        UserError: the file system cannot lock.
    """
    (folder / 'locks').mkdir(parents=True, exist_ok=True)
    with open(folder / 'locks' / 'entry', 'ab') as file:
        lock(file.fileno(), folder, wait=True)
        yield


@contextmanager
def hold_shard(folder: Path, shard: Shard) -> Iterator[None]:
    """Takes a shard for as long as the context lasts.

    Args:
        folder: the run directory; made where there is none.
        shard: to be taken.

    Raises:
        UserError: another process has the shard, or runs with another number of shards; the
            message says which process. Or the file system cannot lock.
    """
    with entry(folder):
        _refuse_other_counts(folder, shard)
        held = _take(shard.lock(folder))
    try:
        yield
    finally:
        os.close(held)


def lock(descriptor: int, path: Path, wait: bool = False) -> bool:
    """Locks a file until its descriptor is closed.

    Args:
        descriptor: of the file.
        path: for the message.
        wait: until nobody else has it.

    Returns:
        Whether it is locked now; False: another process has it.

    Raises:
        UserError: the file system cannot lock.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        raise UserError(
            f'{path}: the file system cannot lock files ({error.strerror}); put the run directory '
            'on another one'
        ) from None
    return True


def _refuse_other_counts(folder: Path, shard: Shard) -> None:
    """No two numbers of shards at a time: a question would belong to two of them."""
    for path in sorted((folder / 'locks').glob('*-of-*')):
        count = int(path.name.rpartition('-')[2])
        if count != shard.count and _is_locked(path):
            raise UserError(
                f'{folder}: {shard.count} shards are asked for, but {path.read_text()} runs one of '
                f'{count}; give the same number or end that process first'
            )


def _is_locked(path: Path) -> bool:
    """Whether a process has a lock."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        return not lock(descriptor, path)
    finally:
        os.close(descriptor)


def _take(path: Path) -> int:
    """Descriptor of a lock that is held now, and says by whom."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not lock(descriptor, path):
            raise UserError(
                f'{path.parent.parent}: shard {path.name} is locked by {path.read_text()}; wait '
                'for it, end it, or take another shard'
            )
        now = datetime.now(timezone.utc).isoformat(timespec='seconds')
        holder = f'process {os.getpid()} on {socket.gethostname()} since {now}'
        os.ftruncate(descriptor, 0)
        os.write(descriptor, holder.encode())
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
