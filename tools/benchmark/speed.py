"""How fast a method is: ``speed.py hssda --out FILE.json [--quick]``.

Training steps are compared with the work that no implementation can avoid, measured in turn in
the same process. The last line names the ratio.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmark import environment, methods
from benchmark.jobs import clock
from benchmark.tables import summarise, text_table
from benchmark.training import ROOT, write_json


@dataclass
class Report:
    """What a speed benchmark found.

    Attributes:
        rows: ``label``, ``seed``, ``metrics`` and ``seconds`` each.
        ratio: training step over the unavoidable work.
        notes: anything worth saying, a line each.
    """

    rows: list[dict] = field(default_factory=list)
    ratio: float = float('nan')
    notes: list[str] = field(default_factory=list)

    def add(self, label: str, metrics: dict[str, float], seconds: float = 0.0) -> None:
        """Adds a row."""
        self.rows.append({'label': label, 'seed': 0, 'metrics': metrics, 'seconds': seconds})


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('name', help=f'method: {", ".join(methods.names())}')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE.json')
    parser.add_argument('--quick', action='store_true', help='few repetitions')
    parser.add_argument('--devices', nargs='+', choices=['cpu', 'cuda'], help='default: all')
    parser.add_argument('--rounds', type=int, help='repetitions (default 9, quick 2)')
    parser.add_argument('--only-steps', action='store_true', help='training steps alone')
    parser.add_argument(
        '--checkpoint', type=Path, help='of a supervised burn-in (default: one is trained)'
    )
    parser.add_argument('--work-dir', type=Path, help='default: work_dirs/speed/NAME')
    args = parser.parse_args(argv)
    args.work_dir = (args.work_dir or ROOT / 'work_dirs' / 'speed' / args.name).absolute()
    args.rounds = args.rounds or (2 if args.quick else 9)
    return args


def table(rows: list[dict]) -> str:
    """The rows as text, each metric with its name."""
    cells = [['', '', '']]
    for row in rows:
        for index, (name, value) in enumerate(row['metrics'].items()):
            cells.append([row['label'] if index == 0 else '', name, f'{value:.4g}'])
    return text_table(cells)


def main(argv: list[str] | None = None) -> int:
    """Measures; returns the exit code."""
    args = parse(argv)
    module = methods.find(args.name)
    if not hasattr(module, 'measure_speed'):
        raise SystemExit(f'{args.name} has no speed benchmark')
    start = time.monotonic()
    try:
        report = module.measure_speed(args, Report())
    except KeyboardInterrupt:
        print('stopped', file=sys.stderr)
        return 130
    result = {
        **environment.describe(args.name, 'speed.py'),
        'kind': 'speed',
        'quick': args.quick,
        'wall_seconds': time.monotonic() - start,
        'ratio': report.ratio,
        'notes': report.notes,
        'rows': report.rows,
        'summary': summarise(report.rows),
    }
    write_json(args.out, result)
    print(table(report.rows))
    for note in report.notes:
        print(note)
    print(f'{clock(result["wall_seconds"])} in total, written to {args.out}')
    print(f'speed {args.name}: {report.ratio:.2f} x')
    return 0


if __name__ == '__main__':
    sys.exit(main())
