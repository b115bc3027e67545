"""Stamps of finished stages, the lock of a checkout, and atomic files."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from pathlib import Path


def write_atomic(path: Path, text: str) -> None:
    """Writes a file so that it is either whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}.{os.getpid()}')
    with open(partial, 'w', encoding='utf-8') as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, path)


def digest(*parts) -> str:
    """Hashes strings and the contents of files (given as Path) into a short key."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.read_bytes() if isinstance(part, Path) else str(part).encode()
        sha.update(str(len(data)).encode() + b':' + data)
    return sha.hexdigest()[:24]


class Stamps:
    """One small JSON file per finished stage, inside the environment it speaks of.

    Args:
        folder: Where the stamps lie; they vanish with the environment.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, stage: str) -> dict:
        """Returns the stamp of a stage, {} when there is none or it is damaged."""
        try:
            content = json.loads((self.folder / f'{stage}.json').read_text(encoding='utf-8'))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def is_done(self, stage: str, key: str) -> bool:
        """Says whether the stage was finished with this very key."""
        return self.read(stage).get('key') == key

    def done(self, stage: str, key: str, **more) -> None:
        """Records that the stage is finished."""
        write_atomic(self.folder / f'{stage}.json', json.dumps({'key': key, **more}, indent=1))

    def forget(self, stage: str) -> None:
        """Removes the stamp of a stage."""
        (self.folder / f'{stage}.json').unlink(missing_ok=True)


@contextlib.contextmanager
def folder_lock(folder: Path, on_wait=lambda: None):
    """Holds the lock of a folder.

    The descriptor is inherited by the commands we start, so the lock outlives a killed
    set-up until its last installer has ended, and two of them never write at once.

    Args:
        folder: An existing folder.
        on_wait: Called once when another process holds the lock.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.set_inheritable(handle, True)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
