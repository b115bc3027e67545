"""Plots how many pseudo labels the trainings of some runs had, and how good they were.

Reads what ``PseudoQualityHook`` and the mining rounds logged to
``<work dir>/<time stamp>/vis_data/scalars.json``: precision, recall and the ratio of kept labels
(per class where logged), labels per iteration, thresholds by score and class, stored boxes. Writes
``pseudo_quality.png`` and the plotted numbers, not smoothed, to ``pseudo_quality.json``.
Example: ``pseudo_quality.py work_dirs/hssda work_dirs/mean-teacher --out quality --smooth 5``
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmark.charts import Curve, save_curves
from benchmark.scalars import training
from benchmark.training import write_json

from mmdistill.core.errors import UserError, run_tool

MEASURES = {
    'precision': 'precision',
    'recall': 'recall',
    'kept_ratio': 'ratio of kept labels',
    'count': 'labels per iteration',
}
"""Names and titles of what is measured anew at every log; only these are smoothed."""
ALL = 'all classes'

Series = dict[str, dict[str, Curve]]
"""By measure and class: iterations and values."""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('work_dirs', type=Path, nargs='+', metavar='WORK_DIR')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR')
    parser.add_argument(
        '--smooth', type=int, default=1, metavar='N', help='draw means of the latest N logs'
    )
    args = parser.parse_args(argv)
    if args.smooth < 1:
        parser.error(f'--smooth must be at least 1, got {args.smooth}')
    return args


def labels(work_dirs: Sequence[Path]) -> list[str]:
    """The runs' names: of their folders, with as many parents as tell them apart.

    Raises:
        UserError: a run is given twice.
    """
    parts = [path.resolve().parts for path in work_dirs]
    for path, own in zip(work_dirs, parts, strict=True):
        if parts.count(own) > 1:
            raise UserError(f'{path} is given twice')
    depth = 1
    while len({own[-depth:] for own in parts}) < len(parts):
        depth += 1
    return ['/'.join(own[-depth:]) for own in parts]


def place_of(key: str, classes: Iterable[str]) -> tuple[str, str] | None:
    """Measure and class of a logged number, None for other numbers.

    Args:
        key: ``pseudo/<measure>``, ``pseudo/<measure>_<class>``,
            ``pseudo/threshold_<score>_<class>`` (the low or only one),
            ``pseudo/threshold_high_<score>_<class>``, ``threshold/<score>/<class>/<level>``,
            ``store/<class>`` or ``store/boxes``.
        classes: names that are known, to split names with underscores.
    """
    head, *rest = key.split('/')
    if head == 'threshold' and len(rest) == 3 and rest[2] in ('high', 'low'):
        return f'threshold/{rest[0]}/{rest[2]}', rest[1]
    if head == 'store' and len(rest) == 1:
        return 'store', ALL if rest[0] == 'boxes' else rest[0]
    if head != 'pseudo' or len(rest) != 1:
        return None
    name = rest[0]
    if name.startswith('threshold_'):
        score, label = split_class(name.removeprefix('threshold_'), classes)
        level = 'high' if score.startswith('high_') else 'low'
        return f'threshold/{score.removeprefix("high_")}/{level}', label
    for measure in MEASURES:
        if name == measure:
            return measure, ALL
        if name.startswith(f'{measure}_'):
            return measure, name.removeprefix(f'{measure}_')
    return None


def split_class(name: str, classes: Iterable[str]) -> tuple[str, str]:
    """``<score>_<class>`` apart: the longest known class, else what follows the last ``_``."""
    known = [each for each in classes if name.endswith(f'_{each}')]
    label = max(known, key=len) if known else name.rpartition('_')[2]
    return name.removesuffix(f'_{label}'), label


def read_run(work_dir: Path) -> Series:
    """What a run logged about its pseudo labels.

    Raises:
        UserError: it logged nothing, or nothing about pseudo labels.
    """
    lines = training(work_dir)
    if not lines:
        raise UserError(
            f'{work_dir}: no training logs in */vis_data/scalars.json: give the work dir of a run'
        )
    keys = sorted({key for line in lines for key in line})
    classes = {key.removeprefix('pseudo/count_') for key in keys if key.startswith('pseudo/count_')}
    found: Series = {}
    for key in keys:
        if place := place_of(key, classes):
            pairs = [(line['iter'], line[key]) for line in lines if key in line]
            found.setdefault(place[0], {})[place[1]] = tuple(map(list, zip(*pairs, strict=True)))
    if not found:
        raise UserError(
            f'{work_dir}: its logs tell nothing about pseudo labels, only {", ".join(keys)}: put '
            "dict(type='mmdistill.PseudoQualityHook') among the custom_hooks of its config"
        )
    return found


def smoothed(values: Sequence[float], width: int) -> list[float]:
    """Mean of each value and up to ``width - 1`` before it."""
    parts = [values[max(0, end - width) : end] for end in range(1, len(values) + 1)]
    return [sum(part) / len(part) for part in parts]


def title_of(measure: str, measures: Iterable[str]) -> str:
    """Of the chart of a measure; a threshold is called low where there is a high one."""
    if measure == 'store':
        return 'stored boxes'
    if not measure.startswith('threshold/'):
        return MEASURES[measure]
    _, score, level = measure.split('/')
    alone = f'threshold/{score}/high' not in measures
    return f'threshold, {score}' if alone else f'{level} threshold, {score}'


def charts(runs: Mapping[str, Series], width: int) -> dict[str, dict[str, Curve]]:
    """Curves by title and name; names tell run and class as far as there are several.

    Args:
        runs: by name.
        width: logs that are averaged, see :func:`smoothed`.
    """
    measures = {measure for series in runs.values() for measure in series}
    drawn: dict[str, dict[str, Curve]] = {}
    for measure in [*(each for each in MEASURES if each in measures),
                    *sorted(measures - set(MEASURES), reverse=True)]:  # fmt: skip
        curves = drawn.setdefault(title_of(measure, measures), {})
        for run, series in runs.items():
            for label, (x, y) in series.get(measure, {}).items():
                words = [run] if len(runs) > 1 else []
                words += [label] if label != ALL or not words else []
                curves[', '.join(words)] = x, smoothed(y, width) if measure in MEASURES else y
    return drawn


def main(argv: list[str] | None = None) -> None:
    """Writes picture and numbers."""
    args = parse_args(argv)
    runs = {
        name: read_run(path)
        for name, path in zip(labels(args.work_dirs), args.work_dirs, strict=True)
    }
    picture, numbers = (args.out / f'pseudo_quality.{kind}' for kind in ('png', 'json'))
    save_curves(picture, charts(runs, args.smooth))
    content = {
        name: {
            measure: {label: {'iter': x, 'value': y} for label, (x, y) in curves.items()}
            for measure, curves in series.items()
        }
        for name, series in runs.items()
    }
    write_json(numbers, {'smooth': args.smooth, 'runs': content})
    print(picture, numbers, sep='\n')


if __name__ == '__main__':
    run_tool(main)
