"""What the stages are, what each depends on, and which are still to do."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from . import integrity, preflight, pythons
from .state import Stamps, digest
from .wheel_cache import cache_root, pinned, wheel_key

FORMAT = '1'  # raise it when a stage does something new with the same requirement files
STAGES = ('venv', 'torch', 'mmcv', 'hosts', 'pose', 'mmkd', 'dev', 'project', 'check')


@dataclass(frozen=True)
class Route:
    """CPU or GPU.

    Args:
        tag: ``cpu``, or the CUDA version and architectures, as ``cu130-9.0``.
        architectures: Compute capabilities to compile for, empty for the CPU.
    """

    tag: str = 'cpu'
    architectures: str = ''


def choose_route(cuda, remembered: dict, environ=None) -> Route:
    """Chooses the route of this call.

    Args:
        cuda: '1', '0', or None to keep what the last call chose.
        remembered: Fields of the last route, {} for none.
        environ: Environment variables; ``TORCH_CUDA_ARCH_LIST`` names the architectures.
    """
    environ = os.environ if environ is None else environ
    last = Route(remembered.get('tag', 'cpu'), remembered.get('architectures', ''))
    wanted = last.architectures != '' if cuda is None else cuda.lower() not in ('0', 'no', 'false')
    if not wanted:
        return Route()
    named = environ.get('TORCH_CUDA_ARCH_LIST', '').replace(' ', ';')
    if last.architectures and named in ('', last.architectures):
        return last
    architectures = named or preflight.gpu_architectures()
    return Route(f'cu{nvcc_version()}-{architectures}', architectures)


def nvcc_version() -> str:
    """Returns nvcc's version as ``130`` for 13.0, empty without nvcc."""
    home = os.environ.get('CUDA_HOME', '/usr/local/cuda')
    for program in ('nvcc', f'{home}/bin/nvcc'):
        try:
            out = subprocess.run([program, '--version'], capture_output=True, text=True).stdout
        except OSError:
            continue
        found = re.search(r'release (\d+)\.(\d+)', out)
        if found:
            return found[1] + found[2]
    return ''


@dataclass
class Plan:
    """The keys of all stages for one checkout, Python and route.

    Args:
        root: Folder of the repository.
        python_version: (major, minor) of the environment.
        route: CPU or GPU.
    """

    root: Path
    python_version: tuple
    route: Route
    keys: dict = field(init=False)

    def __post_init__(self) -> None:
        needs = self.root / 'requirements'
        common = (FORMAT, *self.python_version, self.route.tag)
        frame = (needs / 'constraints.txt', needs / 'lock.txt')
        versions = [pinned(needs / f'{name}.txt', name) for name in ('mmcv', 'torch')]
        self.wheel_key = wheel_key(*versions, self.python_version, self.route.tag)
        self.mmcv_version = versions[0]
        files = {
            'venv': (),
            'torch': (needs / 'torch.txt', *frame),
            'hosts': (needs / 'hosts.txt', self.device_file, needs / 'overrides.txt', *frame),
            'pose': (needs / 'pose.txt', needs / 'pose-nodeps.txt'),
            'mmkd': (needs / 'mmkd.txt', *frame),
            'dev': (needs / 'dev.txt', *frame),
            'project': tuple(
                folder / name
                for folder in self.projects()
                for name in ('setup.py', 'pyproject.toml')
                if (folder / name).is_file()
            ),
        }
        self.keys = {name: digest(*common, name, *parts) for name, parts in files.items()}
        self.keys['mmcv'] = digest(*common, self.wheel_key)
        self.keys['check'] = digest(*(self.keys[name] for name in STAGES[:-1]))

    @property
    def device_file(self) -> Path:
        """The requirement file that differs between CPU and GPU."""
        name = 'cuda.txt' if self.route.architectures else 'cpu.txt'
        return self.root / 'requirements' / name

    @property
    def wheel_folder(self) -> Path:
        """Where this matrix's mmcv wheel lies in the cache."""
        return cache_root() / self.wheel_key

    def projects(self) -> list:
        """Lists the packages of this repository, the main one first."""
        second = self.root / 'projects' / 'mmkd'
        has_second = any((second / name).is_file() for name in ('setup.py', 'pyproject.toml'))
        return [self.root, second] if has_second else [self.root]

    def pending(self, stamps: Stamps, site: Path) -> list:
        """Lists the stages to do, looking also at what is really installed.

        Args:
            stamps: Records of finished stages.
            site: ``site-packages`` of the environment.
        """
        present = integrity.installed(site)
        todo = [name for name in STAGES if not stamps.is_done(name, self.keys[name])]
        for name, files in {
            'torch': ['torch.txt'],
            'mmcv': ['mmcv.txt'],
            'hosts': ['hosts.txt', self.device_file.name],
            'pose': ['pose.txt', 'pose-nodeps.txt'],
            'mmkd': ['mmkd.txt'],
            'dev': ['dev.txt'],
        }.items():
            text = '\n'.join((self.root / 'requirements' / file).read_text() for file in files)
            for dist, version in re.findall(r'^([\w.-]+)(?:==([^\s;#]+))?', text, re.M):
                found = present.get(integrity.normal(dist))
                if found is None or version not in ('', found):
                    todo.append(name)
        if not any(site.glob('mmcv/_ext*.so')):
            todo.append('mmcv')
        if 'mmdistill' not in present or not (self.root / 'mmdistill' / '.mim').is_dir():
            todo.append('project')
        if todo:
            todo.append('check')
        return [name for name in STAGES if name in todo]


def environment_version(venv: Path):
    """Returns (major, minor) of an environment's Python, None when it does not run."""
    python = venv / 'bin' / 'python'
    return pythons.version_of(str(python)) if python.exists() else None


def site_packages(venv: Path, version: tuple) -> Path:
    """Returns the folder into which an environment installs."""
    return venv / 'lib' / 'python{}.{}'.format(*version) / 'site-packages'
