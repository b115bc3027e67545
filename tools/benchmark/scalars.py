"""Reads what a run logged: ``<work dir>/<time stamp>/vis_data/scalars.json``, a line per log."""

from __future__ import annotations

import json
from pathlib import Path


def records(work_dir: Path) -> list[dict]:
    """All logged lines of a work dir, oldest run first; a line cut off by a kill is left out."""
    found = []
    for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
    return found


def training(work_dir: Path) -> list[dict]:
    """The training logs by iteration; a resumed run's lines replace those it repeats."""
    by_iter = {line['iter']: line for line in records(work_dir) if 'loss' in line}
    return [by_iter[key] for key in sorted(by_iter)]


def position(work_dir: Path) -> int:
    """Last logged training iteration, 0 before the first."""
    lines = training(work_dir)
    return lines[-1]['iter'] if lines else 0


def mean_of(work_dir: Path, name: str) -> float | None:
    """Mean of a number over the training logs that have it, None when none has."""
    values = [line[name] for line in training(work_dir) if name in line]
    return sum(values) / len(values) if values else None


def validation(work_dir: Path, needle: str = 'AP') -> dict[str, float] | None:
    """The numbers of the last validation, None when there was none.

    Args:
        work_dir: of the run.
        needle: part of the name of at least one of its numbers.
    """
    for line in reversed(records(work_dir)):
        if 'loss' not in line and any(needle in key for key in line):
            return {k: v for k, v in line.items() if k not in ('step', 'data_time', 'time')}
    return None


def curve(work_dir: Path, name: str) -> list[tuple[int, float]]:
    """Iteration and value of a number in all validations; repeated ones count once."""
    lines = [line for line in records(work_dir) if 'loss' not in line and name in line]
    return sorted({line['step']: line[name] for line in lines}.items())
