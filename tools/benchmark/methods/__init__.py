"""One module per method: its gain and its speed benchmark.

A module offers ``GAIN`` (:class:`benchmark.methods.Gain`) and ``measure_speed(work_dir, quick)``
(see ``speed.py``). A new method is a new file here.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from benchmark.jobs import Job


@dataclass(frozen=True)
class Gain:
    """What ``gain.py`` compares.

    Attributes:
        rows: labels by key, in the order of the table.
        method: key of the method.
        baseline: key of what it is compared with.
        metric: metric of the comparison, greater is better.
        columns: metric by heading of the table.
        caption: what the numbers are, a sentence or two for the documents.
        jobs: ``jobs(folder, seed, keys, quick, script)``: the jobs of one seed.
            Rows are ``benchmark.training.Training`` with a ``key``.
    """

    rows: Mapping[str, str]
    method: str
    baseline: str
    metric: str
    columns: Mapping[str, str]
    caption: str
    jobs: Callable[[Path, int, Sequence[str], bool, Path], list[Job]]


def names() -> list[str]:
    """All methods with benchmarks."""
    return sorted(
        each.name for each in pkgutil.iter_modules(__path__) if not each.name.endswith('_speed')
    )


def find(name: str) -> ModuleType:
    """The module of a method.

    Raises:
        SystemExit: there is none.
    """
    if name not in names():
        raise SystemExit(f'no benchmark named {name!r}; there are: {", ".join(names())}')
    return importlib.import_module(f'{__name__}.{name}')
