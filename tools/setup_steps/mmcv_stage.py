"""Getting mmcv with working operators: from the cache, from a folder of wheels, or compiled."""

from __future__ import annotations

import shutil
from pathlib import Path

from . import integrity, mmcv_build, wheel_cache
from .installer import Installer
from .pip_config import pip_settings
from .plan import Plan, nvcc_version
from .shell import CommandError, SetupError
from .state import Stamps, folder_lock

OPS_PROBE = """
import sys, torch, mmcv
from mmcv.ops import box_iou_rotated, get_compiling_cuda_version
box = torch.tensor([[0., 0., 2., 2., 0.]])
assert abs(box_iou_rotated(box, box).item() - 1) < 1e-4
assert mmcv.__version__ == sys.argv[1], mmcv.__version__
assert sys.argv[2] == 'cpu' or get_compiling_cuda_version() != 'not available', 'no CUDA ops'
"""


class MmcvStage:
    """The stage ``mmcv``.

    Args:
        plan: Names the versions and the folder in the cache.
        installer: Runs pip.
        stamps: Records of finished stages.
        site: ``site-packages`` of the environment.
    """

    def __init__(self, plan: Plan, installer: Installer, stamps: Stamps, site: Path) -> None:
        self.plan, self.installer, self.stamps, self.site = plan, installer, stamps, site
        self.shell, self.python = installer.shell, installer.python
        self.folder = plan.wheel_folder
        self._wheel = None
        self._compiled = False
        self._error = None

    def ready_wheel(self):
        """Returns a wheel that is there already: from the cache, else from a folder of links."""
        links = wheel_cache.link_folders(pip_settings().get('find-links', ''))
        for folder in (self.folder, *links):
            args = (folder, 'mmcv', self.plan.mmcv_version, self.plan.python_version)
            for wheel in wheel_cache.matching(*args):
                return wheel
        return None

    def prepare(self, search: bool = True) -> None:
        """Finds or compiles the wheel; an error is kept for ``install`` to raise.

        Args:
            search: Look for a ready wheel first.
        """
        self._wheel = self._error = None
        try:
            if search and self._adoptable():
                return
            ready = self.ready_wheel() if search else None
            self._wheel, self._compiled = (ready, False) if ready else self._compile(search)
        except Exception as error:  # this may be a thread: install() raises it in the main one
            self._error = error

    def install(self) -> None:
        """Installs the wheel and publishes it in the cache once its operators have run.

        Raises:
            SetupError: No wheel could be had, or it does not work here.
        """
        if self._wheel is None and self._error is None:
            self.prepare()
        while True:
            if self._error is not None:
                raise self._error
            if self._wheel is None:
                return
            self.shell.say('mmcv', f'installing {self._wheel}')
            if self._install_works():
                if self._wheel.parent != self.folder:
                    wheel_cache.publish(self._wheel, self.folder)
                shutil.rmtree(self.folder / 'build', ignore_errors=True)
                return
            if self._compiled:
                raise SetupError('mmcv: its operators compiled but do not run; see mmcv.log')
            self.shell.say('mmcv', f'{self._wheel} does not work here, compiling instead')
            if self._wheel.parent == self.folder:
                self._wheel.unlink()
            self.prepare(search=False)

    def _install_works(self) -> bool:
        """Installs the wheel; False when it, not compiled here, is damaged or its ops fail."""
        try:
            self.installer.install('mmcv', '--no-deps', '--force-reinstall', self._wheel)
        except CommandError:
            if self._compiled:
                raise
            return False
        return self._ops_work()

    def _adoptable(self) -> bool:
        """Says whether an mmcv that somebody else installed here serves."""
        if self.stamps.read('mmcv') or 'mmcv' not in integrity.installed(self.site):
            return False
        return self._ops_work()

    def _ops_work(self) -> bool:
        command = [self.python, '-c', OPS_PROBE, self.plan.mmcv_version, self.plan.route.tag]
        try:
            self.shell.run('mmcv', command, cwd=self.site)
        except CommandError:
            return False
        return True

    def _compile(self, search: bool) -> tuple:
        """Returns (wheel, whether it was compiled here and now)."""
        build = self.folder / 'build'
        build.mkdir(parents=True, exist_ok=True)
        with folder_lock(self.folder, lambda: self.shell.say('mmcv', 'being compiled elsewhere')):
            ready = self.ready_wheel() if search else None
            if ready:
                return ready, False
            architectures = self.plan.route.architectures
            if architectures:
                self._check_toolkit()
            wheel = mmcv_build.build(
                self.shell, self.python, self._sources(build), build, architectures
            )
            return wheel, True

    def _sources(self, folder: Path) -> Path:
        """Downloads the source archive, once."""
        version = self.plan.mmcv_version
        sdist = folder / f'mmcv-{version}.tar.gz'
        if not sdist.exists():
            fresh = folder / 'download'
            shutil.rmtree(fresh, ignore_errors=True)
            flags = ('--no-deps', '--no-build-isolation', '--no-binary', 'mmcv', '-d', fresh)
            self.installer.pip('mmcv', 'download', *flags, f'mmcv=={version}')
            next(fresh.glob('mmcv-*.tar.gz')).replace(sdist)
            shutil.rmtree(fresh)
        return sdist

    def _check_toolkit(self) -> None:
        """Refuses an nvcc of another major version than the one torch was built with."""
        code = 'import torch; print(torch.version.cuda or "none")'
        ours = self.shell.run('mmcv', [self.python, '-c', code]).split()[-1]
        if nvcc_version()[:2] != ours.split('.')[0]:
            raise SetupError(
                f'torch was built with CUDA {ours}, nvcc is {nvcc_version() or "missing"}; install '
                f'the CUDA toolkit {ours} and set CUDA_HOME to it'
            )
