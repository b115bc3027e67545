"""Claims on numbered pieces of work that processes share: locks on the bytes of a file.

A lock belongs to a process and is gone when the process is, however it ended.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmdistill.core.errors import UserError

try:
    import fcntl
except ImportError:  # no POSIX locks on this system
    fcntl = None

_held: dict[tuple[int, int], tuple[int, int, set[int]]] = {}
"""By device and inode of a file: the process, its one descriptor of the file, bytes it locks.

A process loses its locks on a file when it closes any descriptor of it.
"""


@contextmanager
def claimed_byte(path: Path, byte: int) -> Iterator[bool]:
    """Locks one byte of a file, against other processes and within this one.

    Args:
        path: the file; its content plays no role.
        byte: number.

    Returns:
        A context; its value is whether nobody else had it.

    Raises:
        UserError: the system or the file system cannot lock.
    """
    if fcntl is None:
        raise UserError(f'{path}: this system has no POSIX locks, experts cannot be shared')
    status = path.stat()
    key = (status.st_dev, status.st_ino)
    if key not in _held or _held[key][0] != os.getpid():
        _held[key] = (os.getpid(), os.open(path, os.O_RDWR), set())
    _, descriptor, mine = _held[key]
    if byte in mine:
        yield False
        return
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise UserError(
                f'{path}: the file system cannot lock files ({error.strerror}); put the store '
                'on another one'
            ) from error
        taken = True
    else:
        taken = False
        mine.add(byte)
    try:
        yield not taken
    finally:
        if not taken:
            mine.discard(byte)
            fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, byte)
