"""Where and with what a benchmark ran."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ('torch', 'mmengine', 'mmcv', 'mmdet', 'mmdet3d', 'mmsegmentation', 'mmpose', 'numpy')


def _git(*args: str) -> str:
    """Output of a git command in the repository, empty when there is none."""
    try:
        done = subprocess.run(['git', '-C', ROOT, *args], capture_output=True, text=True)
    except FileNotFoundError:
        return ''
    return done.stdout.strip() if done.returncode == 0 else ''


def commit() -> str:
    """Short hash of the commit, with ``+changes`` when library or configs differ from it."""
    found = _git('rev-parse', '--short', 'HEAD') or 'unknown'
    library = ('mmdistill', 'configs', 'projects', ':!projects/*/benchmark', ':!projects/*/tests')
    changed = _git('status', '--porcelain', '--', *library)
    return f'{found}+changes' if changed else found


def describe(name: str, tool: str) -> dict[str, object]:
    """Head of a result file: name, command, commit, versions and hardware."""
    return {
        'name': name,
        'command': shlex.join(['python', f'tools/benchmark/{tool}', *sys.argv[1:]]),
        'commit': commit(),
        'versions': versions(),
        'hardware': hardware(),
    }


def versions() -> dict[str, str]:
    """Releases of Python and of the packages that are installed."""
    found = {'python': platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, object]:
    """Processor, cores, memory and, when torch sees one, the GPU."""
    found: dict[str, object] = {'cpu': _cpu_name(), 'cores': os.cpu_count()}
    found['memory_gib'] = round(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30, 1)
    found['load'] = round(os.getloadavg()[0], 1)
    import torch

    if torch.cuda.is_available():
        found['gpu'] = torch.cuda.get_device_name()
    return found


def _cpu_name() -> str:
    """The processor's name."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(':')[2].strip() for line in lines if line.startswith('model name'))
    return next(names, platform.machine())
