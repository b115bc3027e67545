"""One module per method: its gain and its speed benchmark.

A module offers ``GAIN`` (:class:`benchmark.methods.Gain`) and ``measure_speed(work_dir, quick)``
(see ``speed.py``). A new method is a new file here, or in ``benchmark`` of a project.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from benchmark.jobs import Job

PROJECTS = Path(__file__).resolve().parents[3] / 'projects'
__path__.extend(str(each) for each in sorted(PROJECTS.glob('*/benchmark')))


@dataclass(frozen=True)
class Further:
    """Some rows of a comparison, on other data or with another network, in a table of their own.

    Attributes:
        title: of the table.
        rows: their keys; they are among those of the :class:`Gain`.
        method: key of the method among them.
        columns: metric by heading of the table.
        caption: what the numbers are.
        baseline: key of what the last line compares the method with when only such rows run;
            empty: it speaks of the main table.
    """

    title: str
    rows: Sequence[str]
    method: str
    columns: Mapping[str, str]
    caption: str
    baseline: str = ''


@dataclass(frozen=True)
class Table:
    """One table of a comparison.

    Attributes:
        title: empty for the main one.
        method: label of the method's row.
        columns: metric by heading.
        caption: what the numbers are.
        summary: means of its rows.
    """

    title: str
    method: str
    columns: Mapping[str, str]
    caption: str
    summary: Sequence[Mapping]


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
        further: tables of further rows.
        missing: why rows cannot be run on this machine, by key.
        detectors: keys of the rows of each detector, the default one first; empty: a call without
            ``--rows`` runs all.
    """

    rows: Mapping[str, str]
    method: str
    baseline: str
    metric: str
    columns: Mapping[str, str]
    caption: str
    jobs: Callable[[Path, int, Sequence[str], bool, Path], list[Job]]
    further: Sequence[Further] = ()
    missing: Callable[[], Mapping[str, str]] = dict
    detectors: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def keys(self, detector: str | None = None) -> list[str]:
        """Rows that a call runs that names none: those of a detector, or of the default one."""
        groups = self.detectors or {'': list(self.rows)}
        return list(groups[detector or next(iter(groups))])

    def compared(self, keys: Sequence[str]) -> tuple[str, str]:
        """Keys of the method and of its baseline for the last line of a call with these rows."""
        for each in self.further:
            if each.baseline and set(keys) <= set(each.rows):
                return each.method, each.baseline
        return self.method, self.baseline

    def tables(self, summary: Sequence[Mapping]) -> list[Table]:
        """Sorts means into tables, the main one first; tables without a row are left out."""
        others = {self.rows[key] for each in self.further for key in each.rows}
        main = [each for each in summary if each['label'] not in others]
        method = self.rows[self.method]
        found = [Table('', method, self.columns, self.caption, main)]
        for each in self.further:
            labels = {self.rows[key] for key in each.rows}
            part = [line for line in summary if line['label'] in labels]
            method = self.rows[each.method]
            found.append(Table(each.title, method, each.columns, each.caption, part))
        return [each for each in found if each.summary]


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
