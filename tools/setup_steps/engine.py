"""Carries out the stages that are still to do."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

from . import integrity, preflight, wheel_cache
from .installer import Installer
from .mmcv_stage import MmcvStage
from .plan import STAGES, Plan, choose_route, environment_version, site_packages
from .pythons import supported
from .shell import CommandError, SetupError, Shell
from .state import Stamps, folder_lock, write_atomic


class Setup:
    """One call of ``make setup``.

    Args:
        root: Folder of the repository.
        plan: The stages' keys.
        shell: Runs commands and prints progress.
    """

    def __init__(self, root: Path, plan: Plan, shell: Shell) -> None:
        self.root, self.plan, self.shell = root, plan, shell
        self.venv = root / '.venv'
        self.python = self.venv / 'bin' / 'python'
        self.needs = root / 'requirements'
        self.stamps = Stamps(self.venv / '.mmdistill')
        self.site = site_packages(self.venv, plan.python_version)
        self.installer = Installer(root, self.python, shell)
        self.mmcv = MmcvStage(plan, self.installer, self.stamps, self.site)

    def carry_out(self, todo: list) -> None:
        """Does the stages in ``todo``; mmcv compiles beside the downloads after torch.

        Raises:
            SetupError: A stage failed.
        """
        unfinished = self.stamps.folder / 'unfinished'
        if unfinished.exists():
            dropped = integrity.drop_broken(self.site)
            if dropped:
                self.shell.say('venv', f'half installed, again: {", ".join(dropped)}')
        write_atomic(unfinished, '')
        self.stamps.done('route', '', **vars(self.plan.route))
        compiler = None
        for name in ('venv', 'torch', 'hosts', 'pose', 'mmkd', 'dev', 'mmcv', 'project', 'check'):
            if name not in todo:
                continue
            if name not in ('venv', 'torch', 'mmcv') and 'mmcv' in todo and compiler is None:
                compiler = threading.Thread(target=self.mmcv.prepare, daemon=True)
                compiler.start()
            if name == 'mmcv' and compiler is not None:
                compiler.join()
            self.shell.say(name, 'begins')
            getattr(self, f'do_{name}')()
            self.stamps.done(name, self.plan.keys[name])
            self.shell.say(name, 'done')
        unfinished.unlink()

    def do_venv(self) -> None:
        """Takes uv and the wheel builder into the environment."""
        self.installer.bootstrap()

    def do_torch(self) -> None:
        """Installs torch, numpy and the build tools."""
        self.installer.install('torch', '-r', self.needs / 'torch.txt')

    def do_hosts(self) -> None:
        """Installs the OpenMMLab hosts."""
        files = (self.needs / 'hosts.txt', self.plan.device_file)
        self.installer.install('hosts', *(word for file in files for word in ('-r', file)))
        try:
            self.shell.run('hosts', [self.python, '-c', 'import cv2'])
        except CommandError:  # pip alone installs opencv-python beside it, which needs libGL
            self.installer.pip('hosts', 'uninstall', '-y', 'opencv-python')
            again = ('--force-reinstall', '--no-deps', 'opencv-python-headless')
            self.installer.install('hosts', *again)

    def do_pose(self) -> None:
        """Installs mmpose without the dependency that does not build."""
        self.installer.install('pose', '-r', self.needs / 'pose.txt')
        flags = ('--no-deps', '--force-reinstall')
        wheel = self.xtcocotools_wheel()
        try:
            self.installer.install('pose', *flags, wheel or self.build_xtcocotools())
        except CommandError:
            if wheel is None:
                raise
            self.shell.say('pose', f'{wheel} does not work here, compiling instead')
            wheel.unlink()
            self.installer.install('pose', *flags, self.build_xtcocotools())
        self.installer.install('pose', '--no-deps', '-r', self.needs / 'pose-nodeps.txt')

    def xtcocotools_wheel(self, folder: Path | None = None):
        """Returns the compiled wheel in a folder, None without one.

        Args:
            folder: The cache by default.
        """
        name = 'xtcocotools'
        version = wheel_cache.pinned(self.needs / 'pose-nodeps.txt', name)
        folder = folder or wheel_cache.cache_root() / f'{name}-{version}_numpy2'
        wheels = wheel_cache.matching(folder, name, version, self.plan.python_version)
        return wheels[0] if wheels else None

    def build_xtcocotools(self) -> Path:
        """Compiles the wheel into the cache."""
        name, out = 'xtcocotools', self.venv / '.mmdistill' / 'wheels'
        version = wheel_cache.pinned(self.needs / 'pose-nodeps.txt', name)
        build = ('--no-deps', '--no-build-isolation', '--no-binary', name, '-w', out)
        self.installer.pip('pose', 'wheel', *build, f'{name}=={version}')
        folder = wheel_cache.cache_root() / f'{name}-{version}_numpy2'
        wheel = wheel_cache.publish(self.xtcocotools_wheel(out), folder)
        shutil.rmtree(out)
        return wheel

    def do_mmkd(self) -> None:
        """Installs the libraries that projects/mmkd stands on."""
        self.installer.install('mmkd', '-r', self.needs / 'mmkd.txt')

    def do_dev(self) -> None:
        """Installs the tools for tests and style."""
        self.installer.install('dev', '-r', self.needs / 'dev.txt')

    def do_project(self) -> None:
        """Installs this repository's packages in editable mode."""
        for folder in self.plan.projects():
            flags = ('--no-deps', '--no-build-isolation', '--force-reinstall')
            self.installer.install('project', *flags, '-e', folder)

    def do_check(self) -> None:
        """Lets the doctor look at the result."""
        try:
            self.shell.run('check', [self.python, '-m', 'mmdistill.doctor'], cwd=self.root)
        except CommandError as error:
            raise SetupError(f'the doctor is not content:\n{error.log_tail}') from error

    def do_mmcv(self) -> None:
        """Installs mmcv with operators that work, from the best wheel to be had."""
        self.mmcv.install()


def lacks(setup: Setup, todo: list, first: bool) -> list:
    """Lists what the machine lacks for the stages in ``todo``, one line each."""
    found = [preflight.check_venv_module()] if first else []
    heavy = {'torch', 'hosts', 'pose', 'mmkd', 'dev', 'mmcv'} & set(todo)
    must_compile = 'mmcv' in todo and setup.mmcv.ready_wheel() is None
    if must_compile or ('pose' in todo and setup.xtcocotools_wheel() is None):
        found += [preflight.check_compiler(), preflight.check_headers()]
    if setup.plan.route.architectures and must_compile:
        found.append(preflight.check_nvcc())
    if heavy or first:
        room = 8 if 'torch' not in integrity.installed(setup.site) else 1
        found += [preflight.check_disk(setup.venv, room), preflight.check_network()]
    return [line for line in found if line]


def clean_environment() -> dict:
    """Returns the environment for commands: nothing of another Python leaks in."""
    ours = {'PIP_USER': '0', 'PIP_NO_INPUT': '1', 'PIP_DISABLE_PIP_VERSION_CHECK': '1'}
    alien = ('PYTHONPATH', 'PYTHONHOME', 'VIRTUAL_ENV', 'CONDA_PREFIX', 'PIP_REQUIRE_VIRTUALENV')
    kept = {name: value for name, value in os.environ.items() if name not in alien}
    return {**kept, **ours, 'PYTHONUNBUFFERED': '1'}


def main(root: Path, cuda=None, explicit_python: bool = False, repair: bool = False) -> int:
    """Brings the environment of a checkout up to date.

    Args:
        root: Folder of the repository.
        cuda: '1', '0', or None to keep the last route.
        explicit_python: The running Python must be the environment's.
        repair: Do all stages again, and drop packages whose files are damaged.

    Returns:
        0 when all is done, 1 when a stage failed, 2 when the machine lacks something, 130
        after Ctrl-C.
    """
    venv = root / '.venv'
    stamps = Stamps(venv / '.mmdistill')
    shell = Shell(venv / '.mmdistill' / 'logs', clean_environment())

    def survey() -> tuple:
        version, ours = environment_version(venv), sys.version_info[:2]
        fits = version is not None and supported(version)
        fits = fits and not (explicit_python and version != ours)
        route = choose_route(cuda, stamps.read('route'))
        setup = Setup(root, Plan(root, version if fits else ours, route), shell)
        return setup, fits, setup.plan.pending(stamps, setup.site) if fits else list(STAGES)

    if not repair and not survey()[2]:
        return 0
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with folder_lock(root, lambda: shell.say('venv', 'another set-up works here, waiting')):
            if repair and stamps.folder.is_dir():
                write_atomic(stamps.folder / 'unfinished', '')
                for name in STAGES:
                    stamps.forget(name)
            setup, fits, todo = survey()
            if not todo:
                return 0
            sound = fits and (stamps.read('venv') != {} or adoptable(setup))
            missing = lacks(setup, todo, first=not sound)
            if missing:
                print('\n'.join(f'make setup: {line}' for line in missing), file=sys.stderr)
                return 2
            if not sound:
                create(setup)
            setup.carry_out(setup.plan.pending(stamps, setup.site))
            shell.say('setup', 'all done; see also: .venv/bin/python -m mmdistill.doctor')
        return 0
    except KeyboardInterrupt:
        print('\nmake setup: stopped; the next call goes on from here', file=sys.stderr)
        return 130
    except SetupError as error:
        tail = getattr(error, 'log_tail', '')
        print(f'{tail}\nmake setup: {error}'.lstrip(), file=sys.stderr)
        return 1
    finally:
        shell.stop()


def _interrupt(*_) -> None:
    """Treats SIGTERM like Ctrl-C."""
    raise KeyboardInterrupt


def adoptable(setup: Setup) -> bool:
    """Says whether an environment without our records was filled by somebody and works."""
    if len(integrity.installed(setup.site)) < 3:
        return False
    command = [setup.python, '-m', 'pip', '--version']
    return subprocess.run(command, capture_output=True).returncode == 0


def create(setup: Setup) -> None:
    """Makes the environment anew; its old records go first, its content after them."""
    base = getattr(sys, '_base_executable', None) or sys.executable  # not .venv's own Python
    setup.shell.say('venv', f'making {setup.venv} with {base}')
    shutil.rmtree(setup.stamps.folder, ignore_errors=True)
    command = [base, '-m', 'venv', '--clear', setup.venv]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise SetupError(f'python -m venv failed:\n{result.stdout}{result.stderr}')
