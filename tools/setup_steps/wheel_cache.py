"""The user's cache of wheels that were compiled here."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from pathlib import Path


def pinned(requirements: Path, name: str) -> str:
    """Returns the version that a requirement file pins.

    Args:
        requirements: A requirement file.
        name: The distribution.

    Raises:
        ValueError: The file does not pin it.
    """
    found = re.search(rf'^{re.escape(name)}==(\S+)', requirements.read_text(), re.M)
    if not found:
        raise ValueError(f'{requirements}: no line "{name}==VERSION"')
    return found[1]


def cache_root(environ=None) -> Path:
    """Returns ``${XDG_CACHE_HOME:-~/.cache}/mmdistill/wheels``."""
    environ = os.environ if environ is None else environ
    base = environ.get('XDG_CACHE_HOME') or str(Path(environ.get('HOME', '~')).expanduser())
    base = base if environ.get('XDG_CACHE_HOME') else base + '/.cache'
    return Path(base, 'mmdistill', 'wheels')


def wheel_key(mmcv: str, torch: str, python, cuda: str, machine: str = '') -> str:
    """Names the folder of a wheel by everything it is bound to.

    Args:
        mmcv: Version of mmcv.
        torch: Version of torch.
        python: (major, minor).
        cuda: ``cpu`` or ``cu130-9.0`` and the like.
        machine: Architecture, this machine's by default.
    """
    machine = machine or platform.machine()
    cuda = re.sub(r'[^\w.+-]', '_', cuda)
    return f'mmcv-{mmcv}_torch-{torch}_cp{python[0]}{python[1]}_{cuda}_{sys.platform}-{machine}'


def matching(folder: Path, name: str, version: str, python) -> list:
    """Lists the wheels in a folder that fit a distribution, a Python and this machine."""
    tag = f'cp{python[0]}{python[1]}'
    pattern = f'{name}-{version}-{tag}-{tag}-*{platform.machine()}.whl'
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def link_folders(find_links: str, environ=None) -> list:
    """Lists the local folders in which a ready wheel may lie.

    Args:
        find_links: pip's ``find-links`` option.
        environ: Environment variables; ``MMDISTILL_WHEELS`` comes first.
    """
    environ = os.environ if environ is None else environ
    words = environ.get('MMDISTILL_WHEELS', '').split(os.pathsep) + find_links.split()
    words = [word[7:] if word.startswith('file://') else word for word in words]
    return [Path(word).expanduser() for word in words if word and '://' not in word]


def publish(wheel: Path, folder: Path) -> Path:
    """Copies a wheel into the cache; it appears there whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f'.{wheel.name}.{os.getpid()}'
    shutil.copyfile(wheel, partial)
    with open(partial, 'rb+') as stream:
        os.fsync(stream.fileno())
    os.replace(partial, folder / wheel.name)
    return folder / wheel.name
