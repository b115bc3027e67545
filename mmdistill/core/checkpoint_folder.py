"""A folder of checkpoints: which one is the newest that is whole, and what may go."""

import os
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path

from mmdistill.core.checkpoint_io import TEMP, read_record, seam, why_invalid, write_atomic
from mmdistill.core.errors import UserError

POINTER = 'last_checkpoint'
_STALE_SECONDS = 86400.0


def write_pointer(folder: str | os.PathLike, checkpoint: str | os.PathLike) -> None:
    """Writes ``last_checkpoint`` in the form that OpenMMLab's tools read.

    Args:
        folder: The work dir.
        checkpoint: The newest checkpoint.
    """
    path = Path(folder) / POINTER
    seam.observer('pointer', path, 0)
    write_atomic(path, lambda file: file.write(os.path.abspath(checkpoint).encode()))


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
    here = re.compile(re.escape(f'{TEMP}-{socket.gethostname()}-') + r'(\d+)-')
    for path in Path(folder).glob(f'{TEMP}-*'):
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
