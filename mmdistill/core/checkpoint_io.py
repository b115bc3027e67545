"""Checkpoint files that are whole or absent: atomic writes, a checksum inside, the newest valid.

A checkpoint is what ``torch.save`` makes, a zip archive, with the record below as the
archive's comment. ``torch.load`` and zip tools read it as usual, the checksum cannot be
separated from its file, and publishing stays one ``os.replace``.
"""

import hashlib
import json
import os
import re
import socket
import struct
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from mmdistill.core.errors import UserError

POINTER = 'last_checkpoint'
_MAGIC = b'mmdistill '
_EOCD = b'PK\x05\x06'
_EOCD_SIZE = 22
_TEMP = '.mmdistill-tmp'
_CHUNK = 1 << 20
_STALE_SECONDS = 86400.0

Observer = Callable[[str, int], None]


def _ignore(stage: str, amount: int) -> None:
    """The observer that does nothing."""


class _Seam:
    """Where tests look on: called before each step of a save with (stage, bytes so far).

    Stages: ``write`` (before each chunk), ``sync``, ``replace``, ``replaced``, ``pointer``,
    ``prune``.
    """

    observer: Observer = staticmethod(_ignore)


seam = _Seam()


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


def write_atomic(path: str | os.PathLike, *parts: bytes | memoryview) -> None:
    """Writes a file so that at any instant the old content or the new one is there, whole.

    Args:
        path: The file.
        *parts: Its content, one after the other.

    Raises:
        OSError: If writing fails; the old file is untouched then and no temporary is left.
    """
    path = Path(path)
    temp = path.with_name(f'{_TEMP}-{socket.gethostname()}-{os.getpid()}-{path.name}')
    done = 0
    try:
        with open(temp, 'wb') as file:
            for part in map(memoryview, parts):
                for start in range(0, len(part), _CHUNK):
                    seam.observer('write', done)
                    done += file.write(part[start : start + _CHUNK])
            seam.observer('sync', done)
            file.flush()
            os.fsync(file.fileno())
        seam.observer('replace', done)
        os.replace(temp, path)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise
    seam.observer('replaced', done)
    sync_folder(path.parent)


class CheckpointBackend(LocalBackend):
    """mmengine file backend whose ``put`` is atomic and adds the :class:`Record`.

    Args:
        run: See :class:`Record`.
        iter: See :class:`Record`.
        epoch: See :class:`Record`.
        resumable: See :class:`Record`.
    """

    def __init__(self, run: int = 1, iter: int = 0, epoch: int = 0, resumable: bool = False):
        self.about = dict(run=run, iter=iter, epoch=epoch, resumable=resumable)

    def put(self, obj: bytes, filepath: str | os.PathLike) -> None:
        """Publishes a checkpoint.

        Args:
            obj: What ``torch.save`` wrote.
            filepath: The file to make or to replace; its folder is made when missing.

        Raises:
            ValueError: If ``obj`` is no zip archive with an empty comment.
        """
        view = memoryview(obj)
        tail = bytes(view[-_EOCD_SIZE:])
        if tail[:4] != _EOCD or tail[-2:] != b'\x00\x00':
            raise ValueError(f'{filepath}: torch.save did not write a plain zip archive')
        record = Record(
            hashlib.sha256(view).hexdigest(), len(view), time=round(time.time(), 3), **self.about
        )
        comment = _MAGIC + json.dumps(asdict(record)).encode()
        Path(filepath).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(filepath, view[:-2], struct.pack('<H', len(comment)), comment)


register_backend('mmdistill', CheckpointBackend, force=True)


def read_record(path: str | os.PathLike) -> Record | None:
    """Reads the record at the end of a checkpoint; the content is not looked at.

    Args:
        path: The file.

    Returns:
        The record, or None where there is none (a foreign or a truncated file).
    """
    with open(path, 'rb') as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 2048))
        tail = file.read()
    start = tail.rfind(_EOCD)
    comment = tail[start + _EOCD_SIZE :]
    if start < 0 or not comment.startswith(_MAGIC):
        return None
    try:
        record = Record(**json.loads(comment[len(_MAGIC) :]))
    except (ValueError, TypeError):
        return None
    return record if record.size + len(comment) == size else None


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
            with zipfile.ZipFile(path) as archive:
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


def write_pointer(folder: str | os.PathLike, checkpoint: str | os.PathLike) -> None:
    """Writes ``last_checkpoint`` in the form that OpenMMLab's tools read.

    Args:
        folder: The work dir.
        checkpoint: The newest checkpoint.
    """
    seam.observer('pointer', 0)
    write_atomic(Path(folder) / POINTER, os.path.abspath(checkpoint).encode())


def candidates(folder: str | os.PathLike, template: str = '') -> list[Path]:
    """Lists checkpoints that a run could go on from, the newest first.

    Newest is the one of the latest run in the folder and there of the latest iteration, so
    neither clocks nor leftovers of an earlier and longer run matter. Files without a record
    come last, by number and modification time.

    Args:
        folder: The folder, which need not exist.
        template: Another name pattern with one ``{}``, beside ``iter_{}`` and ``epoch_{}``.

    Returns:
        Existing files, valid or not, ``best_*`` and weights-only files left out.
    """
    patterns = [r'(iter|epoch)_(\d+)\.pth']
    if template:
        patterns.append(re.escape(template).replace(r'\{\}', r'(\d+)'))
    found = []
    for path in Path(folder).glob('*'):
        match = next((m for p in patterns if (m := re.fullmatch(p, path.name))), None)
        if match is None or not path.is_file():
            continue
        record = read_record(path)
        if record is None:
            found.append((0, int(match.groups()[-1]), path.stat().st_mtime, path))
        elif record.resumable:
            found.append((record.run, record.iter, record.time, path))
    found.sort(reverse=True)
    return [entry[-1] for entry in found]


def newest_valid(
    folder: str | os.PathLike, template: str = '', log: Callable[[str], None] = print
) -> Path | None:
    """Finds the checkpoint to go on from and sets damaged newer ones aside.

    Args:
        folder: The folder with the checkpoints.
        template: See :func:`candidates`.
        log: Gets one line per damaged file, with its name and the reason.

    Returns:
        The newest whole checkpoint; None if the folder has none at all.

    Raises:
        UserError: If there are checkpoints and every one is damaged.
    """
    paths = candidates(folder, template)
    reasons: dict[Path, str] = {}
    chosen = None
    for path in paths:
        reason = why_invalid(path)
        if reason is None:
            chosen = path
            break
        reasons[path] = reason
    if chosen is None:
        if not paths:
            return None
        listing = '; '.join(f'{path.name}: {reason}' for path, reason in reasons.items())
        raise UserError(
            f'{folder}: no valid checkpoint to resume from ({listing}). Start anew without '
            '--resume, or resume from another file with --resume PATH'
        )
    for path in paths[paths.index(chosen) + 1 :]:  # a truncated file has lost its record
        if read_record(path) is None and path.stat().st_mtime >= chosen.stat().st_mtime:
            reason = why_invalid(path)
            if reason is not None:
                reasons[path] = reason
    for path, reason in reasons.items():
        aside = _set_aside(path)
        log(f'{path.name} is damaged ({reason}): kept as {aside.name}, {chosen.name} is used')
    return chosen


def _set_aside(path: Path) -> Path:
    """Renames a damaged checkpoint to a name that is neither found nor overwritten."""
    for number in range(1000):
        aside = path.with_name(f'{path.name}.damaged{number or ""}')
        if not aside.exists():
            break
    return path.rename(aside)


def next_run(folder: str | os.PathLike, template: str = '') -> int:
    """Numbers the run that starts now: one more than any checkpoint in the folder says.

    Args:
        folder: The folder with the checkpoints.
        template: See :func:`candidates`.

    Returns:
        1 in an empty folder.
    """
    records = [read_record(path) for path in candidates(folder, template)]
    return 1 + max((record.run for record in records if record is not None), default=0)


def clean_temporaries(folder: str | os.PathLike) -> list[str]:
    """Removes what writers that are dead left behind; nothing but our own temporaries.

    A temporary goes if its process on this machine is gone, or if it is a day old.

    Args:
        folder: The folder.

    Returns:
        Names of the removed files.
    """
    removed = []
    here = re.compile(re.escape(f'{_TEMP}-{socket.gethostname()}-') + r'(\d+)-')
    for path in Path(folder).glob(f'{_TEMP}-*'):
        match = here.match(path.name)
        try:
            old = time.time() - path.stat().st_mtime > _STALE_SECONDS
            if old or (match is not None and not _is_alive(int(match.group(1)))):
                path.unlink()
                removed.append(path.name)
        except FileNotFoundError:
            continue
    return removed


def _is_alive(pid: int) -> bool:
    """Tells whether a process of this machine exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()
