"""Times of operations measured turn by turn, and where the time of a step goes."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch


def wait(device: torch.device) -> None:
    """Waits until a GPU has done what was asked of it."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


@dataclass
class Times:
    """Seconds of the repetitions of one operation.

    Attributes:
        wall: by the clock.
        cpu: of all threads of this process, free of what other processes took.
    """

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def median(self, kind: str = 'wall') -> float:
        """Median seconds."""
        return statistics.median(getattr(self, kind))

    def metrics(self) -> dict[str, float]:
        """Milliseconds: median, smallest, largest, and the median of the processor time."""
        return {
            'ms': 1e3 * self.median(),
            'ms_min': 1e3 * min(self.wall),
            'ms_max': 1e3 * max(self.wall),
            'cpu_ms': 1e3 * self.median('cpu'),
        }


@dataclass(frozen=True)
class Operation:
    """Something to be timed.

    Attributes:
        run: the timed part.
        prepare: runs before it, untimed.
    """

    run: Callable[[], Any]
    prepare: Callable[[], Any] = lambda: None


def interleaved(
    operations: Mapping[str, Operation],
    rounds: int,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Times]:
    """Times operations in turn, so that a busy moment of the machine meets all of them.

    The first round warms up and is not counted. Every second round goes backwards.

    Args:
        operations: by name.
        rounds: counted repetitions.
        device: what they run on.
        progress: called with rounds done and all rounds.
    """
    found = {name: Times() for name in operations}
    for index in range(rounds + 1):
        for name in list(operations)[:: 1 if index % 2 else -1]:
            operations[name].prepare()
            wait(device)
            wall, cpu = time.perf_counter(), time.process_time()
            operations[name].run()
            wait(device)
            if index:
                found[name].wall.append(time.perf_counter() - wall)
                found[name].cpu.append(time.process_time() - cpu)
        if progress is not None:
            progress(index, rounds)
    return found


class Breakdown:
    """Sums seconds per part of a program; a part within another counts for itself alone."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self._inner: list[float] = []

    @contextmanager
    def part(self, label: str) -> Iterator[None]:
        """Counts the time spent inside."""
        wait(self.device)
        self._inner.append(0.0)
        start = time.perf_counter()
        try:
            yield
        finally:
            wait(self.device)
            spent = time.perf_counter() - start
            inner = self._inner.pop()
            if self._inner:
                self._inner[-1] += spent
            self.seconds[label] = self.seconds.get(label, 0.0) + spent - inner
            self.calls[label] = self.calls.get(label, 0) + 1

    @contextmanager
    def watch(self, *watched: tuple[Any, str, str]) -> Iterator[None]:
        """Counts calls of functions while it is open.

        Args:
            *watched: owner, name of its function, label.
        """
        before = [(owner, name, vars(owner).get(name)) for owner, name, _ in watched]
        for owner, name, label in watched:
            setattr(owner, name, self._counted(getattr(owner, name), label))
        try:
            yield
        finally:
            for owner, name, own in before:
                if own is None:
                    delattr(owner, name)
                else:
                    setattr(owner, name, own)

    def _counted(self, function: Callable, label: str) -> Callable:
        """The function, counted."""

        @functools.wraps(function)
        def counted(*args: Any, **kwargs: Any) -> Any:
            with self.part(label):
                return function(*args, **kwargs)

        return counted
