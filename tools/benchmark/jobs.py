"""Processes that are run one after the other or side by side, resumed and reported on.

A job knows its command, what it needs and whether it is done. :func:`run_jobs` starts what
is ready, shows one line of progress with the time left, goes on when a job fails, and on
Ctrl-C lets the running ones save and stop.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

STOP_SECONDS = 30.0
TAIL_LINES = 12


class JobError(RuntimeError):
    """A job ended without its result."""


@dataclass
class Job:
    """A process. Subclasses say what it does.

    Args:
        name: shown on the screen, unique.
        log: file for its output.
        needs: names of the jobs that must be done before.
        cost: expected seconds; only the ratios between jobs matter.
    """

    name: str
    log: Path
    needs: tuple[str, ...] = ()
    cost: float = 1.0
    error: str = field(default='', init=False)

    def is_done(self) -> bool:
        """Whether an earlier call left a result that still holds."""
        return False

    def command(self) -> list[str]:
        """What to run."""
        raise NotImplementedError

    def fraction(self) -> float:
        """How much of the running process is done, 0 to 1."""
        return 0.0

    def ended(self, seconds: float, code: int) -> None:
        """Called when the process has ended; keeps the result.

        Raises:
            JobError: it left none.
        """
        if code:
            raise JobError(f'exit code {code}')

    def summary(self) -> str:
        """The result in a few words."""
        return 'done'


def threads_per_job(jobs: int) -> int:
    """Threads of each of several processes: equal shares, at most ``OMP_NUM_THREADS`` if set."""
    share = max(1, (os.cpu_count() or 1) // jobs)
    limit = os.environ.get('OMP_NUM_THREADS', '')
    return min(share, int(limit)) if limit.isdigit() and int(limit) else share


class Screen:
    """One line that is rewritten on a terminal and repeated every 30 s in a log."""

    def __init__(self) -> None:
        self.live = sys.stdout.isatty()
        self.every = 0.5 if self.live else 30.0
        self.last = time.monotonic()

    def status(self, text: str) -> None:
        """Shows the state if it is time."""
        now = time.monotonic()
        if now - self.last < self.every:
            return
        self.last = now
        if self.live:
            columns = os.get_terminal_size().columns
            print('\r' + text[: columns - 1].ljust(columns - 1), end='', flush=True)
        else:
            print(text, flush=True)

    def line(self, text: str) -> None:
        """Prints a line that stays."""
        if self.live:
            print('\r\x1b[K', end='')
        print(text, flush=True)


@contextmanager
def alone_in(folder: Path) -> Iterator[bool]:
    """Says whether nobody else works in a folder, and keeps others out while it is open."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / '.lock', 'w') as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True


def clock(seconds: float) -> str:
    """Seconds as ``m:ss`` or ``h:mm:ss``."""
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d}:{seconds:02d}' if hours else f'{minutes}:{seconds:02d}'


class _SignalsAsInterrupt:
    """Within it SIGTERM and SIGHUP stop the program as Ctrl-C does."""

    def __enter__(self) -> None:
        def stop(number: int, _frame: object) -> None:
            raise KeyboardInterrupt

        self._old = {n: signal.signal(n, stop) for n in (signal.SIGTERM, signal.SIGHUP)}

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)


class _Board:
    """State of all jobs of one call."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = {job.name: job for job in jobs}
        if len(self.jobs) < len(jobs):
            raise ValueError('job names must be unique')
        self.waiting = list(self.jobs)
        self.running: dict[str, tuple[subprocess.Popen, float]] = {}
        self.done: set[str] = set()
        self.failed: dict[str, str] = {}
        self.start, self.worked = time.monotonic(), 0.0

    def ready(self) -> Job | None:
        """The first waiting job whose needs are done; jobs whose needs failed fail with them."""
        for name in list(self.waiting):
            broken = [need for need in self.jobs[name].needs if need in self.failed]
            if broken:
                self.waiting.remove(name)
                self.failed[name] = f'not started: {broken[0]} failed'
                continue
            if all(need in self.done for need in self.jobs[name].needs):
                self.waiting.remove(name)
                return self.jobs[name]
        return None

    def text(self) -> str:
        """The line of progress."""
        now, parts, here = time.monotonic(), [], 0.0
        for name in self.running:
            share = min(self.jobs[name].fraction(), 1.0)
            here += share * self.jobs[name].cost
            parts.append(f'{name} {share:.0%}')
        ended = self.worked + here
        total = ended - here + sum(self.jobs[n].cost for n in (*self.waiting, *self.running))
        elapsed = now - self.start
        left = f'about {clock(elapsed * (total - ended) / ended)} left' if ended else 'starting'
        count = f'[{len(self.done)}/{len(self.jobs)}]'
        if self.failed:
            count += f' {len(self.failed)} failed'
        return f'{count} {", ".join(parts)} | {clock(elapsed)} elapsed, {left}'


def run_jobs(
    jobs: Sequence[Job],
    parallel: int = 1,
    report: Callable[[Job], None] | None = None,
) -> dict[str, str]:
    """Runs jobs to their end.

    Args:
        jobs: in the order in which they are preferred.
        parallel: processes at a time; each gets its share of the cores.
        report: called after each job that ended well or was done already.

    Returns:
        Failed jobs and why.

    Raises:
        KeyboardInterrupt: after Ctrl-C, SIGTERM or SIGHUP, when all processes have stopped.
    """
    board, screen = _Board(jobs), Screen()
    threads = str(threads_per_job(parallel))
    env = {**os.environ, 'OMP_NUM_THREADS': threads, 'MKL_NUM_THREADS': threads}
    env.update(PYTHONUNBUFFERED='1', MPLBACKEND='Agg')

    def settle(job: Job, note: str) -> None:
        board.done.add(job.name)
        screen.line(f'{job.name}: {job.summary()}{note}')
        if report is not None:
            report(job)

    with _SignalsAsInterrupt():
        try:
            while board.waiting or board.running:
                _collect(board, screen, settle)
                while len(board.running) < parallel and (job := board.ready()):
                    if job.is_done():
                        settle(job, ' (from an earlier call)')
                        continue
                    job.log.parent.mkdir(parents=True, exist_ok=True)
                    with open(job.log, 'a') as log:
                        process = subprocess.Popen(
                            job.command(),
                            stdout=log,
                            stderr=subprocess.STDOUT,
                            stdin=subprocess.DEVNULL,
                            env=env,
                            start_new_session=True,
                        )
                    board.running[job.name] = process, time.monotonic()
                screen.status(board.text())
                time.sleep(0.2 if board.running else 0)
        except KeyboardInterrupt:
            screen.line(
                'stopping: running jobs save their state, a second Ctrl-C ends them at once'
            )
            _stop(board)
            screen.line('stopped; the same command goes on from here')
            raise
    return board.failed


def _collect(board: _Board, screen: Screen, settle: Callable[[Job, str], None]) -> None:
    """Takes the results of processes that have ended."""
    for name, (process, start) in list(board.running.items()):
        code = process.poll()
        if code is None:
            continue
        job, seconds = board.jobs[name], time.monotonic() - start
        del board.running[name]
        board.worked += job.cost
        try:
            job.ended(seconds, code)
        except JobError as error:
            board.failed[name] = str(error)
            screen.line(f'{name}: FAILED, {error}; the end of {job.log}:')
            for line in _tail(job.log):
                screen.line(f'    {line}')
            continue
        settle(job, f', {clock(seconds)}')


def _tail(log: Path) -> list[str]:
    """The last lines of a log."""
    return [line[:200] for line in log.read_text(errors='replace').splitlines()[-TAIL_LINES:]]


def _stop(board: _Board) -> None:
    """Asks processes to end, then ends them; keeps what they have reached."""
    for process, _ in board.running.values():
        _signal(process, signal.SIGTERM)
    limit = time.monotonic() + STOP_SECONDS
    try:
        while time.monotonic() < limit and any(
            process.poll() is None for process, _ in board.running.values()
        ):
            time.sleep(0.1)
    except KeyboardInterrupt:
        pass
    for name, (process, start) in board.running.items():
        _signal(process, signal.SIGKILL)
        code = process.wait()
        try:
            board.jobs[name].ended(time.monotonic() - start, code)
        except JobError:
            continue


def _signal(process: subprocess.Popen, number: int) -> None:
    """Sends a signal to a process and its children, if it still runs."""
    if process.poll() is None:
        os.killpg(process.pid, number)
