"""Which Python the environment is made with."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

LOWEST, HIGHEST = (3, 10), (3, 12)
CANDIDATES = ('python3.12', 'python3.11', 'python3.10')


def supported(version) -> bool:
    """Says whether ``version`` (major, minor, ...) lies in the tested range."""
    return LOWEST <= tuple(version[:2]) <= HIGHEST


def refusal(executable: str, version) -> str:
    """Returns the one line that says why a Python is refused and what to do."""
    return (
        f'make setup: {executable} is Python {version[0]}.{version[1]}; 3.10 to 3.12 is needed. '
        'Get one with: apt-get install python3.11 python3.11-venv python3.11-dev, '
        'then: make setup PYTHON=python3.11'
    )


def version_of(executable: str):
    """Returns (major, minor) of an interpreter by running it, None when it does not run."""
    code = 'import sys; print(*sys.version_info[:2])'
    try:
        out = subprocess.run(
            [executable, '-I', '-S', '-c', code], capture_output=True, text=True, timeout=60
        )
        return tuple(int(n) for n in out.stdout.split()) if out.returncode == 0 else None
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def find(root: Path, path=None):
    """Finds a supported Python: on the search path, else the one in ``.venv``.

    Args:
        root: Folder of the repository.
        path: Search path, ``$PATH`` by default.

    Returns:
        Its full path, or None.
    """
    found = [shutil.which(name, path=path) for name in CANDIDATES]
    inside = root / '.venv' / 'bin' / 'python'
    if os.access(inside, os.X_OK):
        found.append(str(inside))
    for executable in filter(None, found):
        version = version_of(executable)
        if version and supported(version):
            return executable
    return None
