"""Folders that a command generates: whole or not at all, never over other data.

A generated folder carries ``manifest.json`` with everything it depends on. The
same command again finds its own manifest and does nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

MANIFEST = 'manifest.json'


def generate(out: Path, manifest: dict, overwrite: bool, write: Callable[[Path], object]) -> bool:
    """Lets ``write`` fill a temporary folder beside ``out`` and renames it when it is complete.

    Args:
        out: folder to make.
        manifest: JSON-able description of the content.
        overwrite: replaces whatever ``out`` holds.
        write: fills the empty folder it is given.

    Returns:
        False when ``out`` holds this very content already.

    Raises:
        FileExistsError: ``out`` holds something else and ``overwrite`` is off.
    """
    out = Path(os.path.abspath(out))
    manifest = json.loads(json.dumps(manifest))
    if not overwrite and read_manifest(out) == manifest:
        return False
    if not overwrite and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(
            f'{out} exists and was not made by this command with these settings; '
            'give another --out, or --overwrite to replace it'
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    sweep(out)
    part = out.parent / f'.{out.name}.part-{os.getpid()}'
    old = out.parent / f'.{out.name}.old-{os.getpid()}'
    part.mkdir()
    try:
        write(part)
        (part / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + '\n')
        if out.exists():
            os.rename(out, old)
        os.rename(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return True


def read_manifest(out: Path) -> dict | None:
    """The manifest of a generated folder, None when there is none that can be read."""
    try:
        return json.loads((out / MANIFEST).read_text())
    except (OSError, ValueError):
        return None


def sweep(out: Path) -> None:
    """Removes what killed runs of this command left beside ``out``."""
    for left in out.parent.glob(f'.{out.name}.part-*'):
        pid = left.name.rpartition('-')[2]
        if pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def _alive(pid: int) -> bool:
    """Whether a process with this id runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Progress:
    """A line with count, rate and remaining time, at most every ``every`` seconds."""

    def __init__(self, what: str, every: float = 1.0) -> None:
        self.what = what
        self.start = time.monotonic()
        self.every = every if sys.stderr.isatty() else 10 * every
        self.last = self.start

    def __call__(self, done: int, total: int) -> None:
        """Reports ``done`` of ``total``."""
        now = time.monotonic()
        if done < total and now - self.last < self.every:
            return
        self.last = now
        rate = done / max(now - self.start, 1e-6)
        left = (total - done) / rate
        end = '\n' if done == total or not sys.stderr.isatty() else '\r'
        text = f'{self.what}: {done}/{total}, {rate:.1f}/s, {left:.0f} s left   '
        print(text, end=end, file=sys.stderr, flush=True)
