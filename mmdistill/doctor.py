"""``python -m mmdistill.doctor``: what is installed, what works, and how to mend the rest.

Prints one row per finding. The exit code is 1 when something that training needs is
missing or broken, else 0.
"""

import argparse
import importlib
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType

PACKAGE = Path(__file__).resolve().parent
PIP = f'{sys.executable} -m pip install'
HOSTS = {
    # import name: (distribution, tested release, whether the main job needs it)
    'mmengine': ('mmengine', '0.10.7', True),
    'mmcv': ('mmcv', '2.1.0', True),
    'mmdet': ('mmdet', '3.3.0', True),
    'mmdet3d': ('mmdet3d', '1.4.0', True),
    'mmseg': ('mmsegmentation', '1.2.2', False),
    'mmpose': ('mmpose', '1.3.2', False),
    'spconv': ('spconv', '2.3.8', False),
}


@dataclass(frozen=True)
class Finding:
    """One row of the report.

    Args:
        name: What was looked at.
        status: ``ok``, ``warn`` (something will not be available) or ``fail`` (blocks).
        detail: What was found.
        remedy: The line that mends it, empty when there is nothing to mend.
    """

    name: str
    status: str
    detail: str
    remedy: str = ''


def setup_line(otherwise: str, package: Path = PACKAGE, more: str = '') -> str:
    """Returns ``make setup`` for a checkout, ``otherwise`` for an installed package.

    Args:
        otherwise: The line for an installed package.
        package: Folder of the package.
        more: Variables for ``make setup``.
    """
    root = package.parent
    return f'make -C {root} setup {more}'.strip() if (root / 'Makefile').is_file() else otherwise


def reinstall_line(*words: str, distribution: str = '') -> str:
    """Returns the line that installs something that is missing or broken.

    Args:
        *words: For ``pip install`` where there is no checkout.
        distribution: What to look for; where it is there, ``make setup`` alone sees no fault.
    """
    there = bool(release(distribution or words[-1].split('==')[0]))
    force = ['--force-reinstall', '--no-deps'] if there else []
    pip = ' '.join([PIP, *force, *words])
    return setup_line(pip, more='REPAIR=1' if there else '')


def release(distribution: str) -> str:
    """Returns the installed version of a distribution, empty when there is none."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ''


def numbers(version: str) -> tuple[int, ...]:
    """Returns the leading numbers of a version: ``2.12.1+cpu`` gives (2, 12, 1)."""
    found = []
    for word in version.split('+')[0].split('.'):
        if not word.isdigit():
            break
        found.append(int(word))
    return tuple(found)


def load(name: str) -> tuple[ModuleType | None, str]:
    """Imports a module without ever raising.

    Args:
        name: Its dotted name.

    Returns:
        The module and '', or None and the error in one line.
    """
    try:
        return importlib.import_module(name), ''
    except (Exception, SystemExit) as error:  # a broken host may raise anything at import
        return None, f'{type(error).__name__}: {error}'.splitlines()[0][:200]


def check_python() -> Iterator[Finding]:
    """Looks at the interpreter."""
    version = sys.version_info[:2]
    good = (3, 10) <= version <= (3, 12)
    fresh = 'python3.11 -m venv .venv && .venv/bin/python -m pip install mmdistill'
    remedy = '' if good else setup_line(fresh, more='PYTHON=python3.11')
    detail = f'{platform.python_version()} at {sys.executable}'
    yield Finding('python', 'ok' if good else 'fail', detail, remedy)


def check_frame() -> Iterator[Finding]:
    """Looks at torch, torchvision and numpy."""
    for name, tested in (('torch', '2.12.1'), ('torchvision', '0.27.1')):
        module, error = load(name)
        line = reinstall_line('torch==2.12.1', 'torchvision==0.27.1', distribution=name)
        if module is None:
            yield Finding(name, 'fail', error, line)
        elif name == 'torch' and numbers(release(name)) < (2, 6):
            yield Finding(name, 'fail', f'{release(name)}; 2.6 or newer is needed', line)
        else:
            tried = '' if release(name) == tested else f' (tested: {tested})'
            yield Finding(name, 'ok', release(name) + tried)
    numpy = release('numpy')
    if not numpy or numbers(numpy) >= (2, 4):
        detail = f'{numpy}: mmdet3d calls np.in1d, removed in 2.4' if numpy else 'missing'
        yield Finding('numpy', 'fail', detail, f"{PIP} 'numpy<2.4'")
    else:
        yield Finding('numpy', 'ok', numpy)


def check_hosts() -> Iterator[Finding]:
    """Imports the OpenMMLab hosts."""
    for name, (distribution, tested, needed) in HOSTS.items():
        module, error = load(name)
        found = release(distribution) or getattr(module, '__version__', '')
        if module is not None:
            tried = '' if found == tested else f' (tested: {tested})'
            yield Finding(name, 'ok', f'{found}{tried}')
            continue
        line = reinstall_line(f'{distribution}=={tested}')
        yield Finding(name, 'fail' if needed else 'warn', error, line)


def check_ops() -> Iterator[Finding]:
    """Runs compiled operators of mmcv."""
    remedy = reinstall_line('--no-build-isolation', '--no-binary', 'mmcv', 'mmcv==2.1.0')
    ops, error = load('mmcv.ops')
    torch, _ = load('torch')
    if ops is None or torch is None:
        yield Finding('mmcv ops', 'fail', error or 'torch is missing', remedy)
        return
    boxes = torch.tensor([[0.0, 0, 2, 2, 0.3], [0, 0, 2, 2, 0.3], [9, 9, 2, 2, 0]])
    try:
        kept = ops.nms_rotated(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)[1].tolist()
    except (RuntimeError, AttributeError, TypeError) as problem:
        yield Finding('nms_rotated', 'fail', str(problem).splitlines()[0], remedy)
        return
    right = sorted(kept) == [0, 2]
    detail = 'works on the CPU' if right else f'keeps {kept} of boxes 0, 0 and 2'
    yield Finding('nms_rotated', 'ok' if right else 'fail', detail, '' if right else remedy)
    cuda = ops.get_compiling_cuda_version()
    yield Finding(
        'mmcv ops', 'ok', f'compiled for CUDA {cuda}'.replace('CUDA not available', 'CPU')
    )


def check_spconv() -> Iterator[Finding]:
    """Runs a sparse convolution forward and, with our fix for the CPU, backward."""
    spconv, _ = load('spconv.pytorch')
    torch, _ = load('torch')
    if spconv is None or torch is None:
        return
    remedy = reinstall_line('spconv==2.3.8')
    compat, missing = load('mmdistill.det3d.compat')
    fix = getattr(compat, 'fix_spconv_cpu_stream', None)
    if fix is not None:
        fix()
    step = 'forward'
    try:
        layer = spconv.SubMConv3d(2, 3, 3, bias=False)
        indices = torch.tensor([[0, 0, 0, 0], [0, 1, 1, 1]], dtype=torch.int32)
        tensor = spconv.SparseConvTensor(torch.ones(2, 2), indices, [4, 4, 4], 1)
        out = layer(tensor).features
        step = 'backward'
        out.sum().backward()
    except (RuntimeError, AttributeError, TypeError, ValueError, AssertionError) as problem:
        detail = f'{step}: {type(problem).__name__}: {problem}'.splitlines()[0][:160]
        if step == 'backward' and fix is None:
            detail += f' ({missing or "det3d/compat.py lacks the fix"})'
        yield Finding('spconv ops', 'warn', detail, remedy)
    else:
        yield Finding('spconv ops', 'ok', 'forward and backward work')


def check_devices() -> Iterator[Finding]:
    """Looks at processors, memory and GPUs."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / (1 << 30)
    yield Finding('cpu', 'ok', f'{cores} cores, {memory:.0f} GB of memory')
    torch, _ = load('torch')
    if torch is None:
        return
    if not torch.cuda.is_available():
        yield Finding('gpu', 'ok', 'none; everything runs on the CPU')
        return
    ops, _ = load('mmcv.ops')
    compiled = ops is not None and ops.get_compiling_cuda_version() != 'not available'
    build = '--force-reinstall --no-deps --no-build-isolation --no-binary mmcv mmcv==2.1.0'
    remedy = '' if compiled else setup_line(f'FORCE_CUDA=1 {PIP} {build}', more='CUDA=1')
    for index in range(torch.cuda.device_count()):
        name = torch.cuda.get_device_name(index)
        detail = name if compiled else f'{name}, but mmcv was compiled for the CPU alone'
        yield Finding(f'gpu {index}', 'ok' if compiled else 'warn', detail, remedy)


def check_project() -> Iterator[Finding]:
    """Looks at mmdistill itself."""
    version = release('mmdistill')
    remedy = setup_line(f'{PIP} --force-reinstall --no-deps mmdistill')
    yield Finding(
        'mmdistill',
        'ok' if version else 'warn',
        version or 'runs from its folder, not installed',
        '' if version else remedy,
    )
    if not (PACKAGE / '.mim' / 'model-index.yml').is_file():
        yield Finding('mim metadata', 'warn', 'mim cannot find the configs', remedy)


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    check_python,
    check_devices,
    check_frame,
    check_hosts,
    check_ops,
    check_spconv,
    check_project,
)


def examine(checks: tuple[Callable[[], Iterator[Finding]], ...] = CHECKS) -> list[Finding]:
    """Runs the checks; one that breaks becomes a finding itself.

    Args:
        checks: Generators of findings.
    """
    findings: list[Finding] = []
    for check in checks:
        try:
            findings.extend(check())
        except Exception as error:  # the report must come out on any machine
            name = check.__name__.removeprefix('check_')
            detail = f'{type(error).__name__}: {error}'.splitlines()[0]
            findings.append(Finding(name, 'fail', detail, reinstall_line('mmdistill')))
    return findings


def render(findings: list[Finding]) -> str:
    """Lays findings out as a table, remedies below the rows they belong to."""
    width = max((len(finding.name) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f'{finding.status:<5} {finding.name:<{width}}  {finding.detail}')
        if finding.remedy:
            lines.append(f'      {"":<{width}}  mend it with: {finding.remedy}')
    blocking = sum(finding.status == 'fail' for finding in findings)
    warned = sum(finding.status == 'warn' for finding in findings)
    lines.append(f'{blocking} blocking, {warned} warnings')
    return '\n'.join(lines)


def main(argv: list[str] | None = None) -> int:
    """Prints the report and returns the exit code."""
    argparse.ArgumentParser(prog='python -m mmdistill.doctor', description=__doc__).parse_args(argv)
    findings = examine()
    print(render(findings))
    return int(any(finding.status == 'fail' for finding in findings))


if __name__ == '__main__':
    sys.exit(main())
