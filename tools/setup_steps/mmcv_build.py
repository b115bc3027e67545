"""Compiling mmcv's operators in minutes.

mmcv's extension is made of about 80 small files that each parse torch's headers. The 56
files that only dispatch are joined into one; the ``cpu/`` kernels clash by macro and name
and stay apart. ``-g0 -O2`` replaces the ``-g -O3`` that Python was built with.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

from .shell import CommandError, SetupError, Shell

DISPATCHERS = Path('mmcv', 'ops', 'csrc', 'pytorch')


def unify(dispatchers: Path) -> int:
    """Joins the dispatcher sources of a folder into one file.

    Args:
        dispatchers: Folder with the ``.cpp`` files; ``pybind.cpp`` stays as it is.

    Returns:
        How many files were joined.
    """
    sources = sorted(path for path in dispatchers.glob('*.cpp') if path.name != 'pybind.cpp')
    for path in sources:
        path.rename(path.with_suffix('.inc'))
    lines = [f'#include "{path.stem}.inc"\n' for path in sources]
    (dispatchers / 'dispatchers_unity.cpp').write_text(''.join(lines), encoding='utf-8')
    return len(sources)


def unpack(sdist: Path, target: Path, unity: bool) -> Path:
    """Unpacks the sources; the target appears only when they are complete.

    Args:
        sdist: The source archive.
        target: Folder to make; kept when it is there already (objects in it are reused).
        unity: Join the dispatchers.

    Returns:
        ``target``.
    """
    if target.is_dir():
        return target
    partial = target.with_name(target.name + '.partial')
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with tarfile.open(sdist) as archive:
        safe = {'filter': 'data'} if hasattr(tarfile, 'data_filter') else {}
        archive.extractall(partial, **safe)
    inner = next(path for path in partial.iterdir() if path.is_dir())
    if unity:
        unify(inner / DISPATCHERS)
    os.replace(inner, target)
    shutil.rmtree(partial)
    return target


def jobs(cpus=None, memory=None) -> int:
    """Returns how many compilers fit: one per processor and per 2 GB of memory."""
    cpus = cpus or len(os.sched_getaffinity(0))
    memory = memory or os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    return max(1, min(cpus, memory // (2 << 30)))


def build_environment(architectures: str = '') -> dict:
    """Returns the variables of the build.

    Args:
        architectures: Compute capabilities as ``8.0;9.0`` for CUDA; empty for the CPU.
    """
    env = {
        'CFLAGS': '-g0 -O2',
        'CXXFLAGS': '-g0 -O2',
        'MMCV_WITH_OPS': '1',
        'MAX_JOBS': os.environ.get('MAX_JOBS') or str(jobs()),
        'FORCE_CUDA': '1' if architectures else '0',
        'PYTHONWARNINGS': 'ignore',
    }
    if architectures:
        env['TORCH_CUDA_ARCH_LIST'] = architectures
    else:
        env['CUDA_VISIBLE_DEVICES'] = ''  # mmcv takes the CUDA route when it sees a GPU
    return env


def compile_wheel(shell: Shell, python: Path, source: Path, env: dict) -> Path:
    """Compiles unpacked sources; objects of an earlier, interrupted try are reused.

    Args:
        shell: Runs the command.
        python: Interpreter with torch, setuptools < 81 and ninja.
        source: The unpacked sources.
        env: From ``build_environment``.

    Returns:
        The wheel.

    Raises:
        CommandError: The compiler failed.
        SetupError: The wheel holds no compiled operators.
    """
    for stale in (*source.glob('build/lib*'), *source.glob('build/bdist*'), source / 'dist'):
        shutil.rmtree(stale, ignore_errors=True)
    env = {**env, 'PATH': f'{python.parent}{os.pathsep}{shell.env.get("PATH", os.defpath)}'}
    shell.run('mmcv', [python, 'setup.py', '-q', 'bdist_wheel'], cwd=source, env=env)
    wheels = list(source.glob('dist/*.whl'))
    if not wheels or not list(source.glob('build/lib*/mmcv/_ext*.so')):
        raise SetupError('mmcv: the build left no compiled operators')
    return wheels[0]


def build(shell: Shell, python: Path, sdist: Path, folder: Path, architectures: str = '') -> Path:
    """Builds the wheel the fast way and, when that fails, the plain way.

    Args:
        shell: Runs the commands.
        python: Interpreter with the build requirements.
        sdist: The source archive.
        folder: Working folder, kept until the build succeeds.
        architectures: Compute capabilities for CUDA; empty for the CPU.

    Returns:
        The wheel.
    """
    env = build_environment(architectures)
    shell.say('mmcv', f'compiling the operators with {env["MAX_JOBS"]} jobs (4 minutes on 2 cores)')
    try:
        return compile_wheel(shell, python, unpack(sdist, folder / 'unity', unity=True), env)
    except CommandError as error:
        shell.say('mmcv', f'the fast build failed ({error}); plain build, 15 minutes on 2 cores')
    return compile_wheel(shell, python, unpack(sdist, folder / 'plain', unity=False), env)
