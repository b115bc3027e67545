"""Running commands: a log file each, lines of progress, and no orphans after Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path


class SetupError(RuntimeError):
    """A stage failed; the message is what the user reads."""


class CommandError(SetupError):
    """A command ended with an error; ``log_tail`` holds its last lines."""

    def __init__(self, message: str, log_tail: str) -> None:
        super().__init__(message)
        self.log_tail = log_tail


class Shell:
    """Runs commands with their output in log files.

    Args:
        logs: Folder of the log files.
        env: Environment of the commands.
        heartbeat: Seconds between two lines about a command that still runs.
    """

    def __init__(self, logs: Path, env: dict, heartbeat: float = 30.0) -> None:
        self.logs, self.env, self.heartbeat = logs, env, heartbeat
        self.started = time.monotonic()
        self._running: set = set()
        self._guard = threading.Lock()
        self._stopped = False

    def say(self, stage: str, message: str) -> None:
        """Prints a line with the seconds since the start."""
        print(f'[{time.monotonic() - self.started:4.0f} s] {stage:<8} {message}', flush=True)

    def run(self, stage: str, command: list, cwd=None, env=None) -> str:
        """Runs a command to its end.

        Args:
            stage: Name of the log file and of the progress lines.
            command: Program and arguments.
            cwd: Folder to run in.
            env: Variables on top of the usual environment.

        Returns:
            What it printed.

        Raises:
            CommandError: It ended with another code than 0.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f'{stage}.log'
        with open(log, 'ab') as stream:
            begin = stream.tell()
            stream.write(('$ ' + ' '.join(map(str, command)) + '\n').encode())
            stream.flush()
            with self._guard:
                if self._stopped:
                    raise SetupError('stopped')
                process = subprocess.Popen(
                    [str(part) for part in command],
                    cwd=cwd,
                    env={**self.env, **(env or {})},
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    close_fds=False,
                )
                self._running.add(process)
        try:
            while True:
                try:
                    code = process.wait(self.heartbeat)
                    break
                except subprocess.TimeoutExpired:
                    self.say(stage, 'working' + _counter(log, begin))
        finally:
            with self._guard:
                self._running.discard(process)
        text = log.read_bytes()[begin:].decode(errors='replace')
        if code and self._stopped:
            raise SetupError('stopped')
        if code:
            tail = '\n'.join(text.strip().splitlines()[-15:])
            raise CommandError(f'{stage}: command failed with code {code}; log: {log}', tail)
        return text

    def stop(self) -> None:
        """Ends what still runs, with everything it started."""
        with self._guard:
            self._stopped = True
            running = list(self._running)
        for process in running:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)


def _counter(log: Path, begin: int) -> str:
    """Finds ninja's last ``[12/31]`` in the new part of a log."""
    found = re.findall(rb'^\[(\d+)/(\d+)\]', log.read_bytes()[begin:], re.M)
    return f', {int(found[-1][0])} of {int(found[-1][1])} compiled' if found else ''
