"""What a method gains: ``gain.py METHOD --seeds 0 1 2 [--quick] --out FILE.json``.

METHOD is ``hssda``, ``trs`` or ``fst``. Every row of a seed starts alike and sees the same data for
the same number of iterations; rows whose data are not on this machine are skipped. Finished rows
are kept in the work dir: the same call after an interruption goes on where it was. With ``--add``
rows that FILE.json has and this call does not run stay in it, each with its own commit. The last
line names the result.

``hssda`` has rows of several detectors: ``--detector second`` runs those of SECOND; with ``--add``
they become a further table beside the ones that FILE.json has.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmark import environment, methods
from benchmark.jobs import Job, alone_in, clock, run_jobs
from benchmark.tables import comparison, summarise, text_table
from benchmark.training import ROOT, TRAIN, Training, read_json, write_json


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('name', help=f'method: {", ".join(methods.names())}')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--out', type=Path, required=True, metavar='FILE.json')
    parser.add_argument('--quick', action='store_true', help='few frames and iterations')
    parser.add_argument('--rows', nargs='+', metavar='ROW', help='some rows only')
    parser.add_argument('--detector', metavar='NAME', help='all rows of a detector (hssda)')
    parser.add_argument('--add', action='store_true', help='keeps other rows of FILE.json')
    parser.add_argument('--jobs', type=int, default=1, help='processes side by side')
    parser.add_argument('--work-dir', type=Path, help='default: work_dirs/gain/NAME')
    parser.add_argument('--train-script', type=Path, default=TRAIN, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.jobs < 1 or min(args.seeds) < 0 or len(set(args.seeds)) < len(args.seeds):
        parser.error('--jobs must be at least 1, --seeds different numbers from 0')
    if args.rows and args.detector:
        parser.error('--rows names rows of any detector; leave out --detector')
    return args


def rows_of(jobs: list[Job]) -> list[dict]:
    """All rows that are there."""
    rows = []
    for job in jobs:
        if isinstance(job, Training) and (found := job.result()):
            row = {'label': job.label, 'key': job.key, 'seed': job.seed}
            kept = ('metrics', 'curve', 'seconds', 'commit')
            rows.append({**row, **{key: found[key] for key in kept if key in found}})
    return rows


def other_rows(args: argparse.Namespace, jobs: list[Job]) -> tuple[list[dict], float]:
    """Rows of FILE.json that this call does not run itself, and the seconds of earlier calls.

    Raises:
        ValueError: if FILE.json has no rows of this comparison.
    """
    if not (args.add and args.out.exists()):
        return [], 0.0
    there = read_json(args.out)
    if there.get('name') != args.name or there.get('quick') != args.quick:
        what = f'{args.name}{" --quick" if args.quick else ""}'
        raise ValueError(f'{args.out} has no rows of {what} to add to; give another --out')
    own = {(job.key, job.seed) for job in jobs if isinstance(job, Training)}
    rows = [row for row in there['rows'] if (row['key'], row['seed']) not in own]
    return rows, there['wall_seconds']


def result_of(
    head: dict, args: argparse.Namespace, gain: methods.Gain, rows: list[dict], wall: float
) -> dict:
    """The content of the JSON file: where and how, and the rows, seed by seed."""
    order = list(gain.rows)
    # what a row was prepared with is no row of the table: before all others
    place = {key: number for number, key in enumerate(order)}
    rows = sorted(rows, key=lambda row: (row['seed'], place.get(row['key'], -1)))
    seeds = sorted({*args.seeds, *(row['seed'] for row in rows)})
    known = {'quick': args.quick, 'seeds': seeds, 'wall_seconds': wall}
    return {**head, **known, 'rows': rows, 'summary': summarise(rows)}


def verdict(name: str, gain: methods.Gain, summary: list[dict], keys: Sequence[str] = ()) -> str:
    """The last line of a call with these rows."""
    means = {each['label']: each['mean'] for each in summary if each['metric'] == gain.metric}
    method, baseline = (gain.rows[key] for key in gain.compared(keys or [gain.method]))
    missing = [label for label in (method, baseline) if label not in means]
    if missing:
        return f'gain {name}: no result for {" and ".join(missing)}'
    # rounded first, so that the line adds up
    high, low = round(means[method], 1), round(means[baseline], 1)
    difference = f'{high - low:+.1f} {gain.metric}'
    return f'gain {name}: {method} {high:.1f} vs {baseline} {low:.1f} ({difference})'


def main(argv: list[str] | None = None) -> int:
    """Runs the comparison; returns the exit code."""
    args = parse(argv)
    gain = methods.find(args.name).GAIN
    if args.detector and args.detector not in gain.detectors:
        known = ', '.join(gain.detectors) or 'not to choose'
        print(f'gain: no detector {args.detector!r}; they are {known}', file=sys.stderr)
        return 2
    keys = args.rows or gain.keys(args.detector)
    unknown = [key for key in keys if key not in gain.rows]
    if unknown:
        print(f'gain: no row {unknown[0]!r}; rows are {", ".join(gain.rows)}', file=sys.stderr)
        return 2
    for key, why in gain.missing().items():
        if key in keys:
            keys.remove(key)
            print(f'skipped {gain.rows[key]}: {why}')
    folder = args.work_dir or ROOT / 'work_dirs' / 'gain' / args.name
    folder = Path(folder, 'quick' if args.quick else 'full').absolute()
    with alone_in(folder) as alone:
        if not alone:
            print(f'gain: another call works in {folder}; give another --work-dir', file=sys.stderr)
            return 2
        return compare(args, gain, keys, folder)


def compare(args: argparse.Namespace, gain: methods.Gain, keys: list[str], folder: Path) -> int:
    """Runs all jobs, writes and prints the result; returns the exit code."""
    script = args.train_script.absolute()
    per_seed = [gain.jobs(folder, seed, keys, args.quick, script) for seed in args.seeds]
    jobs = [job for jobs in per_seed for job in jobs]
    start = time.monotonic()
    head = environment.describe(args.name, 'gain.py')

    try:
        others, before = other_rows(args, jobs)
    except ValueError as error:
        print(f'gain: {error}', file=sys.stderr)
        return 2

    def result() -> dict:
        wall = before + time.monotonic() - start
        return result_of(head, args, gain, [*others, *rows_of(jobs)], wall)

    def save(_: Job) -> None:
        write_json(args.out, result())

    try:
        failed = run_jobs(jobs, args.jobs, save)
    except KeyboardInterrupt:
        return 130
    found = result()
    write_json(args.out, found)
    print()
    if found['summary']:
        title = f'{args.name}, seeds {" ".join(map(str, found["seeds"]))}'
        for each in gain.tables(found['summary']):
            head = f'{title}, {each.title}' if each.title else title
            print(text_table(comparison(each.summary, each.columns, head)) + '\n')
    for job, why in failed.items():
        print(f'FAILED {job}: {why}')
    commits = {row['commit'] for row in found['rows']}
    if len(commits) > 1:
        print(f'rows were made by different commits: {", ".join(sorted(commits))}')
    print(f'{clock(found["wall_seconds"])} in total, written to {args.out}')
    print(verdict(args.name, gain, found['summary'], keys))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
