"""Installing packages with uv, and with pip where uv is not to be had."""

from __future__ import annotations

import re
import time
from pathlib import Path

from . import pip_config
from .shell import CommandError, Shell

UNSATISFIABLE = re.compile(
    'No solution found|No matching distribution|ResolutionImpossible|not found in the package'
)


class Installer:
    """Installs requirement files into one environment.

    Each file is tried with the tested releases of ``lock.txt``, then, when one of them is
    not to be had, with the bounds of ``constraints.txt`` alone; a failing uv gives way to pip.

    Args:
        root: Folder of the repository.
        python: The environment's interpreter.
        shell: Runs the commands.
        pause: Seconds before a failed download is tried again.
    """

    def __init__(self, root: Path, python: Path, shell: Shell, pause: float = 5.0) -> None:
        self.requirements, self.python, self.shell = root / 'requirements', python, shell
        self.uv_env = pip_config.uv_environment(pip_config.pip_settings())
        self.pause = pause

    @property
    def uv(self) -> Path:
        """Where the environment's uv lies, when it has one."""
        return self.python.with_name('uv')

    def bootstrap(self) -> None:
        """Gets uv into the environment; without it everything goes through pip, slower."""
        if self.uv.exists():
            return
        try:
            self.pip('venv', 'install', 'uv>=0.5')
        except CommandError:
            self.shell.say('venv', 'uv is not to be had, going on with pip')

    def pip(self, stage: str, *arguments) -> str:
        """Runs the environment's pip."""
        return self.shell.run(stage, [self.python, '-m', 'pip', *arguments])

    def install(self, stage: str, *arguments, locked: bool = True) -> None:
        """Installs what the arguments name.

        Args:
            stage: Name of the log and of the progress lines.
            *arguments: As for ``pip install``; paths of requirement files after ``-r``.
            locked: Keep to the tested releases (with ``--no-deps`` it makes no difference).

        Raises:
            CommandError: Neither uv nor pip could.
        """
        bounds = ['lock.txt', 'constraints.txt'] if locked else ['constraints.txt']
        tools = ['uv', 'pip'] if self.uv.exists() else ['pip']
        failure = None
        for tool in tools:
            for name in bounds:
                try:
                    return self._persist(stage, tool, arguments, name)
                except CommandError as error:
                    failure = error
                    self.shell.say(stage, f'{tool} did not succeed with {name}')
                    if not UNSATISFIABLE.search(error.log_tail):
                        break
        raise failure

    def _persist(self, stage: str, tool: str, arguments: tuple, bound: str) -> None:
        """Tries twice, for a connection may break."""
        for last in (False, True):
            try:
                return self._once(stage, tool, arguments, bound)
            except CommandError as error:
                if last or UNSATISFIABLE.search(error.log_tail):
                    raise
                time.sleep(self.pause)
        return None

    def _once(self, stage: str, tool: str, arguments: tuple, bound: str) -> None:
        constraint = ['-c', self.requirements / bound]
        if tool == 'uv':
            overrides = ['--override', self.requirements / 'overrides.txt']
            command = [self.uv, 'pip', 'install', '--python', self.python]
            self.shell.run(stage, [*command, *arguments, *constraint, *overrides], env=self.uv_env)
        else:
            self.pip(stage, 'install', *arguments, *constraint)
