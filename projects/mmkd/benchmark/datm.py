"""DATM by ranges of epochs, beside MTT and random real images: digits and a part of CIFAR-10."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from benchmark.environment import commit
from benchmark.jobs import Job, JobError
from benchmark.methods import Further, Gain
from benchmark.overrides import name_for_seed, seed_options
from benchmark.rows import Judged, RealData
from benchmark.training import ROOT, TRAIN, Training, config_of, read_json, write_json

CONFIGS = ROOT / 'projects' / 'mmkd' / 'configs' / 'datm'
DIGITS, IMAGES = 'digits', 'cifar10-subset'
SOFT, HARD, RANDOM, FULL = (f'distilled/{each}' for each in ('soft', 'hard', 'random', 'full'))
EXPERTS = 'experts'
IPC = (1, 10)
QUICK = 0.1
"""Scale of the trainings of a quick run."""


@dataclass(frozen=True)
class Range:
    """Start epochs of segments.

    Attributes:
        lower: the first.
        upper: the bound at first.
        upper_max: the bound in the end, or None.
        expansion: share of the iterations until then.
    """

    lower: int
    upper: int
    upper_max: int | None = None
    expansion: float = 0.0

    def options(self, iterations: int) -> dict[str, object]:
        """Overrides."""
        place = 'train_dataloader.dataset.'
        found: dict[str, object] = {f'{place}lower': self.lower, f'{place}upper': self.upper}
        if self.upper_max is not None:
            found[f'{place}upper_max'] = self.upper_max
            found[f'{place}expansion'] = max(1, round(self.expansion * iterations))
        return found


RANGES: Mapping[str, Mapping[str, Range]] = {
    DIGITS: {
        'mtt': Range(0, 16),
        'early': Range(0, 4),
        'late': Range(8, 16),
        'expanding': Range(0, 4, 16, 2 / 3),
    },
    IMAGES: {
        'mtt': Range(0, 10),
        'early': Range(0, 3),
        'late': Range(6, 10),
        'expanding': Range(0, 3, 10, 2 / 3),
    },
}
MTT = {
    'model.learn_labels': False,
    'model.init_images': 'real',
    'model.init_labels': 'hard',
}


@dataclass(frozen=True)
class Row:
    """Images that networks are trained on.

    Attributes:
        label: in tables.
        task: digits or images.
        ipc: images per class.
        range: name of the start epochs; None: no image is learned.
        options: overrides by dotted key.
        score: of the evaluation; another than ``SOFT`` is taken from the row of late epochs.
    """

    label: str
    task: str
    ipc: int
    range: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    score: str = SOFT


def _rows(task: str, prefix: str, title: str) -> dict[str, Row]:
    """Rows of a task by key."""
    found: dict[str, Row] = {}
    for ipc in IPC:
        known = {
            'random': Row('random real images', task, ipc, None, {}, RANDOM),
            'mtt': Row('MTT', task, ipc, 'mtt', MTT),
            'early': Row('DATM, early epochs', task, ipc, 'early'),
            'late': Row('DATM, late epochs', task, ipc, 'late'),
            'expanding': Row('DATM, expanding', task, ipc, 'expanding'),
        }
        if ipc > 1 and task == DIGITS:
            known['tesla'] = Row(
                'DATM, late epochs, gradient of TESLA', task, ipc, 'late', {'model.engine': 'tesla'}
            )
        for name, row in known.items():
            label = f'{row.label}, {ipc} per class{title}'
            found[f'{prefix}ipc{ipc}-{name}'] = Row(
                label, task, ipc, row.range, row.options, row.score
            )
    found[f'{prefix}full'] = Row(f'all real images{title}', task, IPC[-1], None, {}, FULL)
    return found


PREFIX = 'cifar-'
ROWS: Mapping[str, Row] = {**_rows(DIGITS, '', ''), **_rows(IMAGES, PREFIX, ', CIFAR-10')}
IMAGE_DATA = RealData(
    judged=Judged(SOFT, SOFT),
    what='images of CIFAR-10',
    config=CONFIGS / 'experts_convnet_cifar10-subset.py',
    files=('cifar10_subset.zip',),
)


def length(config: Path, quick: bool) -> int:
    """Iterations of a distillation."""
    whole = config_of(config).train_cfg.max_iters
    return max(10, round(QUICK * whole)) if quick else whole


@dataclass
class Experts(Training):
    """The experts of a seed."""

    @property
    def iterations(self) -> int:
        """Epochs of all experts."""
        known = config_of(self.config).train_cfg
        return known.experts * known.epochs

    @property
    def checkpoint(self) -> Path:
        """The store."""
        return self.work_dir / 'trajectories'

    def fraction(self) -> float:
        """By whole epochs."""
        try:
            return float(np.load(self.checkpoint / 'progress.npy').sum()) / self.iterations
        except (OSError, ValueError):
            return 0.0

    def ended(self, seconds: float, code: int) -> None:
        """Keeps the mean accuracy of the experts on held-out images."""
        note = read_json(self._note)
        note['seconds'] = note.get('seconds', 0.0) + seconds
        if not code:
            scores = np.load(self.checkpoint / 'scores.npy')[:, -1]
            # no row of a table: a number of its own
            note.update(metrics={}, held_out=float(scores.mean()), commit=commit())
        write_json(self._note, note)
        if code:
            raise JobError(f'exit code {code}')

    def summary(self) -> str:
        """Accuracy on held-out images."""
        return f'held out {self.result()["held_out"]:.1f}'


@dataclass
class Beside(Training):
    """A score of another row's evaluation; it trains nothing itself.

    Args:
        source: the row.
        score: name of the score there.
    """

    source: Training | None = None
    score: str = ''

    def result(self) -> dict:
        """The score as that of the row."""
        found = self.source.result()
        if not found:
            return {}
        return {**found, 'metrics': {SOFT: found['metrics'][self.score]}, 'seconds': 0.0}

    def command(self) -> list[str]:
        """Nothing is left to do when the other row is there."""
        return ['true']

    def ended(self, seconds: float, code: int) -> None:
        """Keeps nothing."""


def clean(found: Mapping[str, float]) -> dict[str, float]:
    """Accuracy of networks on the test set, in percent."""
    return {name: found[name] for name in (SOFT, HARD, RANDOM, FULL) if name in found}


def distillation(
    home: Path, seed: int, key: str, quick: bool, script: Path, experts: Experts
) -> Training:
    """The training of a row."""
    row = ROWS[key]
    config = CONFIGS / f'datm_convnet_{row.task}-ipc{row.ipc}.py'
    iterations = length(config, quick)
    beside = ['soft', 'hard'] + (['random', 'full'] if row.range == 'late' else [])
    options: dict[str, object] = {
        **seed_options(config, seed),
        **dict.fromkeys(('model.seed', 'train_dataloader.dataset.seed', 'val_cfg.seed'), seed),
        **dict.fromkeys(
            ('model.experts', 'train_dataloader.dataset.experts'), str(experts.checkpoint)
        ),
        'train_dataloader.dataset.iterations': iterations,
        'train_cfg.max_iters': iterations,
        # nothing is chosen: the last images are tested once
        'train_cfg.val_interval': iterations,
        'val_cfg.parity': True,
        'val_cfg.runs': 3,
        'val_cfg.rows': json.dumps(beside),
        **({'val_cfg.epochs': 10, 'val_cfg.full_epochs': 1} if quick else {}),
        **RANGES[row.task][row.range].options(iterations),
        **row.options,
    }
    options.pop('train_dataloader.sampler.seed')
    job = Training(
        name=key,
        log=home / f'{key}.log',
        needs=(experts.name,),
        label=row.label,
        key=key,
        seed=seed,
        config=config,
        work_dir=home / key,
        clean=clean,
        headline=SOFT,
        needle=SOFT,
        script=script,
        based_on=experts.fingerprint(),
        options=options,
    )
    job.cost = job.iterations * row.ipc * (10.0 if row.task == IMAGES else 1.0)
    return job


def gain_jobs(
    folder: Path, seed: int, keys: Sequence[str], quick: bool, script: Path = TRAIN
) -> list[Job]:
    """The jobs of one seed: experts, and the rows that learn from them."""
    home, jobs = folder / f'seed_{seed}', {}
    for task, prefix in ((DIGITS, ''), (IMAGES, PREFIX)):
        wanted = [key for key in keys if ROWS[key].task == task]
        if not wanted:
            continue
        config = CONFIGS / f'experts_convnet_{task}.py'
        options: dict[str, object] = {'randomness.seed': seed}
        if quick:
            shortest = max(each.upper_max or each.upper for each in RANGES[task].values()) + 1
            options.update({'train_cfg.experts': 1, 'train_cfg.epochs': shortest})
        experts = Experts(
            name=f'{prefix}{EXPERTS}',
            log=home / f'{prefix}{EXPERTS}.log',
            label=f'experts, {task}',
            key=f'{prefix}{EXPERTS}',
            seed=seed,
            config=config,
            work_dir=home / f'{prefix}{EXPERTS}',
            script=script,
            based_on=IMAGE_DATA.identity() if task == IMAGES else None,
            options=options,
        )
        experts.cost = 1500.0 if task == IMAGES else 300.0
        jobs[experts.name] = experts
        sources = {key: f'{prefix}ipc{ROWS[key].ipc}-late' for key in wanted if not ROWS[key].range}
        for key in dict.fromkeys([*(k for k in wanted if ROWS[k].range), *sources.values()]):
            jobs[key] = distillation(home, seed, key, quick, script, experts)
        for key, source in sources.items():
            jobs[key] = Beside(
                name=key,
                log=home / f'{key}.log',
                needs=(source,),
                label=ROWS[key].label,
                key=key,
                seed=seed,
                config=config,
                headline=SOFT,
                source=jobs[source],
                score=ROWS[key].score,
            )
    name_for_seed(jobs.values(), seed)
    return list(jobs.values())


def missing() -> dict[str, str]:
    """Rows whose data are not here, and why."""
    why = IMAGE_DATA.missing()
    return {key: why for key, row in ROWS.items() if row.task == IMAGES and why}


COLUMNS = {'accuracy, %': SOFT, 'hard labels, %': HARD}
GAIN = Gain(
    rows={key: row.label for key, row in ROWS.items()},
    method='ipc10-late',
    baseline='ipc10-random',
    metric=SOFT,
    columns=COLUMNS,
    caption=(
        "Accuracy on 500 of scikit-learn's digits of three networks that are trained from scratch "
        'on the images of a row, with its labels and with hard ones. All rows of a seed match the '
        'same six experts in 150 iterations; nothing is chosen by the test set. Random images, as '
        'many as the others, and all real ones have hard labels.'
    ),
    jobs=gain_jobs,
    further=[
        Further(
            title='CIFAR-10',
            rows=[key for key in ROWS if key.startswith(PREFIX)],
            method=f'{PREFIX}ipc10-early',
            columns=COLUMNS,
            caption=(
                'The same on 2,000 test images of CIFAR-10: three experts of 12 epochs on 4,500 '
                'images, a network an eighth as wide as usual, 100 iterations.'
            ),
        )
    ],
    missing=missing,
)


def measure_speed(args: argparse.Namespace, report: object) -> object:
    """Measures; see ``speed.py``."""
    from benchmark.methods import datm_speed

    return datm_speed.measure_speed(args, report)
