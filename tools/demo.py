"""``make demo``: a few labelled and many unlabelled LiDAR scenes make a better 3D detector.

Generates scenes, trains a detector on the labelled ones (burn-in), and goes on from there twice:
on labels alone, and with HSSDA. Writes the table, the numbers, pictures and curves to ``--out``.
The same command after an interruption goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmark.charts import save_curves
from benchmark.jobs import Job, JobError, alone_in, clock, run_jobs
from benchmark.methods import hssda
from benchmark.tables import comparison, markdown_table, summarise, text_table
from benchmark.training import ROOT, TRAIN, SyntheticData, Training, read_json, write_json

from benchmark import environment, scalars

TRAIN_FRAMES, VAL_FRAMES = hssda.FULL.train, hssda.FULL.val
PICTURES = 3
"""Unlabelled frames that are drawn."""
PICTURE_FILES = 'pseudo_*.png'
ROWS = ('supervised', 'hssda')
DATA = ROOT / 'data' / 'synthetic_kitti'
SCORE_CHARTS = {'loss': ('loss',), 'pseudo labels kept': ('pseudo/kept_ratio',)}
SCORE_CHARTS['precision and recall'] = ('pseudo/precision', 'pseudo/recall')


@dataclass
class Pictures(Job):
    """Draws scenes with ground truth and pseudo labels of a finished training.

    Args:
        training: the HSSDA row.
        out: folder of the pictures.
    """

    training: Training | None = None
    out: Path = Path()

    @property
    def _note(self) -> Path:
        return self.out / 'pictures' / 'made_for.json'

    def _made_for(self) -> dict:
        result = self.training.result()
        return {'fingerprint': result.get('fingerprint'), 'metrics': result.get('metrics')}

    def is_done(self) -> bool:
        """Whether the pictures show this very training."""
        return read_json(self._note) == self._made_for() and any(self.out.glob(PICTURE_FILES))

    def command(self) -> list[str]:
        """Calls ``visualize_pseudo.py`` with the config the training wrote."""
        for old in self.out.glob(PICTURE_FILES):
            old.unlink()
        config = self.training.work_dir / self.training.config.name
        tool = ROOT / 'tools' / 'misc' / 'visualize_pseudo.py'
        done = [sys.executable, str(tool), str(config), '--out', str(self.out)]
        return [*done, '--checkpoint', str(self.training.checkpoint), '--count', str(PICTURES)]

    def ended(self, seconds: float, code: int) -> None:
        """Remembers which training the pictures show."""
        super().ended(seconds, code)
        if not any(self.out.glob(PICTURE_FILES)):
            raise JobError(f'no picture in {self.out}')
        write_json(self._note, self._made_for())

    def summary(self) -> str:
        """Number of pictures."""
        return f'{len(list(self.out.glob(PICTURE_FILES)))} files {PICTURE_FILES}'


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seed', type=int, default=0, help='of data and training')
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs' / 'demo')
    parser.add_argument('--data', type=Path, help=f'default: {DATA.relative_to(ROOT)}')
    parser.add_argument('--quick', action='store_true', help='minutes less, results worthless')
    parser.add_argument('--train-script', type=Path, default=TRAIN, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.seed < 0:
        parser.error('--seed must not be negative')
    name = DATA.name + ('_quick' if args.quick else '') + (f'_{args.seed}' if args.seed else '')
    args.data = (args.data or DATA.with_name(name)).absolute()
    args.out = args.out.absolute()
    return args


def plan(args: argparse.Namespace) -> list[Job]:
    """All stages."""
    sizes = hssda.QUICK if args.quick else hssda.Sizes(TRAIN_FRAMES, VAL_FRAMES)
    data = SyntheticData(
        name='scenes',
        log=args.out / 'scenes.log',
        kind='kitti',
        out=args.data,
        train=sizes.train,
        val=sizes.val,
        seed=args.seed,
    )
    jobs = hssda.comparison(args.out, data, args.seed, ROWS, sizes, args.train_script.absolute())
    names = {'supervised': 'labels alone', 'hssda': 'HSSDA'}
    for job in jobs[1:]:
        job.name = names.get(job.name, job.name)
    last = jobs[-1]
    pictures = Pictures(
        name='pictures',
        log=args.out / 'pictures.log',
        needs=(last.name,),
        cost=30,
        training=last,
        out=args.out,
    )
    return [*jobs, pictures]


def curves(runs: Mapping[str, Training]) -> dict:
    """Charts from the logs of the trainings."""
    logs = {name: scalars.training(run.work_dir) for name, run in runs.items()}
    charts: dict[str, dict] = {title: {} for title in SCORE_CHARTS}
    for title, keys in SCORE_CHARTS.items():
        for run, lines in logs.items():
            for key in keys:
                name = run if len(keys) == 1 else key.partition('/')[2]
                found = [(line['iter'], line[key]) for line in lines if key in line]
                if found:
                    charts[title][name] = tuple(zip(*found, strict=True))
    for line_key in sorted({key for lines in logs.values() for line in lines for key in line}):
        parts = line_key.split('/')
        if len(parts) != 2 or not parts[1].startswith(('threshold_', 'count_')):
            continue
        kind, _, name = parts[1].rpartition('_')
        title = 'labels per step'
        if kind != 'count':
            score = kind.removeprefix('threshold_')
            level = 'high' if score.startswith('high_') else 'low'
            title = f'{level} threshold, {score.removeprefix("high_")}'
        lines = [line for each in logs.values() for line in each if line_key in line]
        xy = [line['iter'] for line in lines], [line[line_key] for line in lines]
        charts.setdefault(title, {})[name] = xy
    return charts


def finish(args: argparse.Namespace, runs: list[Training], seconds: float) -> str:
    """Writes table, numbers and curves; returns the table as text."""
    rows = [
        {
            'label': run.label,
            'seed': run.seed,
            **{k: run.result()[k] for k in ('metrics', 'seconds')},
        }
        for run in runs
    ]
    columns = hssda.GAIN.columns
    cells = comparison(summarise(rows), columns, 'AP R40 moderate, 3D')
    means = [row['metrics'][hssda.METRIC] for row in rows if row['label'] != 'burn-in']
    if None in means:
        gain = 'no validation scene holds an object: nothing to compare'
    else:
        gain = f'HSSDA {means[1]:.1f} vs labels alone {means[0]:.1f} ({means[1] - means[0]:+.1f})'
    frames = len((args.data / 'ImageSets' / 'train.txt').read_text().split())
    split = Path(runs[0].options['train_dataloader.dataset.split_file'])
    labeled = len(split.read_text().splitlines())
    note = (
        f'{labeled} labelled and {frames - labeled} unlabelled scenes, seed {args.seed}. '
        "Rows are the student's numbers, as the paper's; the last column is the teacher's."
    )
    if args.quick:
        note += ' A quick run: far too short to mean anything.'
    (args.out / 'table.md').write_text(f'{markdown_table(cells)}\n\n{note}\n')
    result = {'name': 'demo', 'seed': args.seed, 'quick': args.quick, 'seconds': seconds}
    result.update(commit=environment.commit(), versions=environment.versions())
    result.update(hardware=environment.hardware(), rows=rows)
    write_json(args.out / 'result.json', result)
    save_curves(args.out / 'curves.png', curves({run.label: run for run in runs[1:]}))
    return f'{text_table(cells)}\n\n{note}\n{gain}'


def main(argv: list[str] | None = None) -> int:
    """Runs the demo; returns the exit code."""
    args = parse(argv)
    with alone_in(args.out) as alone:
        if not alone:
            print(f'demo: another demo works in {args.out}; give another --out', file=sys.stderr)
            return 2
        return play(args)


def play(args: argparse.Namespace) -> int:
    """Runs all stages and shows what came out; returns the exit code."""
    start = time.monotonic()
    jobs = plan(args)
    runs = [job for job in jobs if isinstance(job, Training)]
    print(f'logs, table, pictures and curves go to {args.out}')
    try:
        failed = run_jobs(jobs)
    except KeyboardInterrupt:
        return 130
    if failed:
        for name, why in failed.items():
            print(f'demo: {name} failed: {why}', file=sys.stderr)
        return 1
    seconds = time.monotonic() - start
    print(f'\n{finish(args, runs, seconds)}')
    files = sorted(
        path.name for path in args.out.glob('*') if path.suffix in ('.md', '.json', '.png')
    )
    print(f'{args.out}: {", ".join(files)}')
    spent = sum(run.result()['seconds'] for run in runs)
    print(f'trainings {clock(spent)}, this call {clock(seconds)}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
