"""Checkpoint files that are whole or absent: atomic writes, and a checksum inside.

A checkpoint is what ``torch.save`` makes, a zip archive, with the record below as the
archive's comment. ``torch.load`` and zip tools read it as usual, the checksum cannot be
separated from its file, and publishing stays one ``os.replace``.
"""

import hashlib
import json
import os
import socket
import struct
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import torch

_MAGIC = b'mmdistill '
_EOCD = b'PK\x05\x06'
_EOCD_SIZE = 22
TEMP = '.mmdistill-tmp'
_CHUNK = 1 << 20

Observer = Callable[[str, Path, int], None]


class Seam:
    """Where fault injectors hold on to; training never touches it.

    Attributes:
        observer: Called with (stage, file, bytes written so far) before each step of a write:
            ``write`` (each piece), ``sync``, ``replace``, and ``replaced`` after it; also
            ``pointer`` and ``prune``.
    """

    def __init__(self) -> None:
        self.observer: Observer = lambda stage, path, done: None


seam = Seam()


@dataclass(frozen=True)
class Record:
    """What a checkpoint says about itself.

    Args:
        sha256: Hash of the archive without this record, in hex.
        size: Bytes of the archive without this record.
        run: Number of the training run (start or resume) in this folder, from 1.
        iter: Finished iterations.
        epoch: Finished epochs.
        resumable: Whether optimizer and generators are inside.
        time: Seconds since 1970, for people to read.
    """

    sha256: str
    size: int
    run: int
    iter: int
    epoch: int
    resumable: bool
    time: float


def sync_folder(folder: str | os.PathLike) -> None:
    """Makes renames in a folder durable (where the file system can do that).

    Args:
        folder: The folder.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:  # some network file systems refuse it for folders
        return
    finally:
        os.close(handle)


def write_atomic(path: str | os.PathLike, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file so that at any instant the old content or the new one is there, whole.

    Args:
        path: The file; its folder is made when missing.
        write: Writes the content to the file object that it gets.

    Raises:
        OSError: If writing fails; the old file is untouched then and no temporary is left.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temp = path.with_name(f'{TEMP}-{socket.gethostname()}-{os.getpid()}-{path.name}')
    try:
        with open(temp, 'w+b') as file:
            write(file)
            file.flush()
            done = file.tell()
            seam.observer('sync', path, done)
            os.fsync(file.fileno())
        seam.observer('replace', path, done)
        os.replace(temp, path)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise
    seam.observer('replaced', path, done)
    sync_folder(path.parent)


class _Hashing:
    """A file that hashes what goes through it.

    Args:
        file: Where it goes.
        path: The name under which it will be published.
    """

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file, self.path = file, path
        self.hash, self.size = hashlib.sha256(), 0
        self.error: BaseException | None = None

    def write(self, data: bytes) -> int:
        """Writes and hashes; ``torch.save`` calls it and would hide what goes wrong."""
        try:
            seam.observer('write', self.path, self.size)
            self.file.write(data)
        except BaseException as error:
            self.error = error
            raise
        self.hash.update(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Part of what ``torch.save`` expects of a file."""
        self.file.flush()


def save_checkpoint(
    content: dict, path: str | os.PathLike, run: int, iter: int, epoch: int, resumable: bool
) -> None:
    """Publishes a checkpoint with its :class:`Record`; nothing is held in memory twice.

    Args:
        content: What ``torch.save`` takes.
        path: The file to make or to replace.
        run: See :class:`Record`.
        iter: See :class:`Record`.
        epoch: See :class:`Record`.
        resumable: See :class:`Record`.
    """
    path = Path(path)

    def _write(file: BinaryIO) -> None:
        stream = _Hashing(file, path)
        try:
            torch.save(content, stream)
        except BaseException as error:
            raise stream.error or error from None
        record = Record(
            stream.hash.hexdigest(), stream.size, run, iter, epoch, resumable, round(time.time(), 3)
        )
        comment = _MAGIC + json.dumps(asdict(record)).encode()
        file.seek(stream.size - _EOCD_SIZE)
        tail = file.read(_EOCD_SIZE)
        if tail[:4] != _EOCD or tail[-2:] != b'\x00\x00':
            raise RuntimeError(f'{path}: torch.save did not write a plain zip archive')
        file.seek(stream.size - 2)
        file.write(struct.pack('<H', len(comment)) + comment)

    write_atomic(path, _write)


def _comment(path: str | os.PathLike) -> bytes | None:
    """The archive's comment; None if the file does not end where it says it does."""
    with open(path, 'rb') as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 2048))
        tail = file.read()
    start = tail.rfind(_EOCD)
    if start < 0 or len(tail) < start + _EOCD_SIZE:
        return None
    comment = tail[start + _EOCD_SIZE :]
    (length,) = struct.unpack('<H', tail[start + _EOCD_SIZE - 2 : start + _EOCD_SIZE])
    return comment if len(comment) == length else None


def read_record(path: str | os.PathLike) -> Record | None:
    """Reads the record at the end of a checkpoint; the content is not looked at.

    Args:
        path: The file.

    Returns:
        The record, or None where there is none (a foreign or a truncated file).
    """
    comment = _comment(path)
    if comment is None or not comment.startswith(_MAGIC):
        return None
    try:
        record = Record(**json.loads(comment[len(_MAGIC) :]))
    except (ValueError, TypeError):
        return None
    return record if record.size + len(comment) == os.path.getsize(path) else None


def why_invalid(path: str | os.PathLike) -> str | None:
    """Checks a checkpoint from the first byte to the last.

    Files with a record are checked against its sha256, others (mmengine's own) against the
    checksums of the zip format.

    Args:
        path: The file.

    Returns:
        None if it is whole, else the reason in a few words.
    """
    try:
        size = os.path.getsize(path)
        if size == 0:
            return 'the file is empty'
        record = read_record(path)
        if record is None:
            comment = _comment(path)
            if comment is None:
                return f'truncated or not a checkpoint ({size} bytes)'
            if comment.startswith(_MAGIC):
                return 'its record is damaged'
            with zipfile.ZipFile(path) as archive:
                if not any(name.endswith('data.pkl') for name in archive.namelist()):
                    return 'it is a zip archive but not a checkpoint'
                broken = archive.testzip()
            return None if broken is None else f'checksum of {broken!r} is wrong'
        digest = hashlib.sha256()
        with open(path, 'rb') as file:
            left = record.size - 2
            while left > 0 and (chunk := file.read(min(_CHUNK, left))):
                digest.update(chunk)
                left -= len(chunk)
        digest.update(b'\x00\x00')
        return None if digest.hexdigest() == record.sha256 else 'its sha256 is wrong'
    except FileNotFoundError:
        return 'the file is missing'
    except (zipfile.BadZipFile, NotImplementedError):
        return f'truncated or not a checkpoint ({size} bytes)'
    except OSError as error:
        return f'it cannot be read: {error.strerror or error}'
