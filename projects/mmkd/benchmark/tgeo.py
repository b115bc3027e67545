"""TGeo-KD against fixed ratios: digits and a table with spoilt teachers and inputs, and images."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.jobs import Job
from benchmark.methods import Further, Gain
from benchmark.overrides import name_for_seed, seed_options
from benchmark.rows import Judged, RealData
from benchmark.training import ROOT, TRAIN, Training, config_of

CONFIGS = ROOT / 'projects' / 'mmkd' / 'configs' / 'tgeo_kd'
DIGITS, TABLE, IMAGES = 'digits-spoilt', 'table', 'cifar10'
METRIC, HELD_OUT = 'accuracy', 'held_out/accuracy'
QUICK = 0.1
"""Scale of the trainings of a quick run."""
NETWORKS = {DIGITS: ('mlp', 'mlp'), TABLE: ('mlp', 'mlp'), IMAGES: ('resnet14', 'resnet14-resnet8')}
"""Teacher, and teacher with student, in the names of configs."""
DEFAULT_RATIO = 0.9
_FINE = (0.1, 0.3, 0.5, 0.7, DEFAULT_RATIO)
GRID = {DIGITS: _FINE, TABLE: _FINE, IMAGES: (0.1, 0.5, DEFAULT_RATIO)}
TEACHER, BEST = 'teacher', 'kd-best'


@dataclass(frozen=True)
class Row:
    """One student, or the teacher.

    Attributes:
        label: in tables.
        config: first part of the config's name.
        options: overrides by dotted key.
    """

    label: str
    config: str
    options: Mapping[str, object] = field(default_factory=dict)


def fixed(ratio: float) -> str:
    """Key of the row with one ratio."""
    return f'kd-{ratio}'


COMMON: Mapping[str, Row] = {
    TEACHER: Row('teacher', TEACHER),
    'student': Row('student alone', 'kd', {'model.weighter.ratio': 0.0}),
    **{
        fixed(ratio): Row(f'KD, ratio {ratio}', 'kd', {'model.weighter.ratio': ratio})
        for ratio in GRID[DIGITS]
    },
    BEST: Row('KD, best fixed ratio', 'kd'),
    'dkd': Row('DKD', 'dkd'),
    'tgeo-random': Row('TGeo-KD, ratios not learned', 'tgeo-kd', {'model.weighter.learned': None}),
    'tgeo-joint': Row(
        'TGeo-KD, learned by the training loss',
        'tgeo-kd',
        {'model.weighter.learned': 'training', 'model.weighter.detach': False},
    ),
    'tgeo': Row('TGeo-KD', 'tgeo-kd'),
}
PREFIXES = {DIGITS: '', TABLE: 'table-', IMAGES: 'cifar-'}
TITLES = {TABLE: 'table', IMAGES: 'CIFAR-10'}
NOT_ON_IMAGES = ('tgeo-random', 'tgeo-joint')


def _on_images(key: str) -> bool:
    """Whether the images have the row too."""
    ratio = key.removeprefix('kd-')
    known = {fixed(each) for each in GRID[IMAGES]}
    return key not in NOT_ON_IMAGES and (not ratio[0].isdigit() or key in known)


ROWS: Mapping[str, tuple[str, Row]] = {
    **{key: (DIGITS, row) for key, row in COMMON.items()},
    **{
        PREFIXES[task] + key: (
            task,
            Row(f'{row.label}, {title}', row.config, row.options),
        )
        for task, title in TITLES.items()
        for key, row in COMMON.items()
        if task == TABLE or _on_images(key)
    },
}
"""Task and row by key."""
IMAGE_DATA = RealData(
    judged=Judged(METRIC, METRIC),
    what='images of CIFAR-10',
    config=CONFIGS / 'teacher_resnet14_cifar10.py',
    files=('cifar10_subset.zip',),
)


def config_path(name: str, task: str) -> Path:
    """A config by the first part of its name and its task."""
    return CONFIGS / f'{name}_{NETWORKS[task][name != TEACHER]}_{task}.py'


@dataclass
class Chosen(Training):
    """The row among some that is best on the held-out samples; it trains nothing itself.

    Args:
        among: the rows.
    """

    among: Sequence[Training] = ()

    def result(self) -> dict:
        """Of the best row, with its share of distillation."""
        found = {each.key: each.result() for each in self.among}
        if not all(found.values()):
            return {}
        best = max(self.among, key=lambda each: found[each.key]['metrics'][HELD_OUT])
        ratio = float(best.options['model.weighter.ratio'])
        note = found[best.key]
        seconds = sum(each['seconds'] for each in found.values())
        return {**note, 'metrics': {**note['metrics'], 'ratio': ratio}, 'seconds': seconds}

    def command(self) -> list[str]:
        """Nothing is left to do when the rows are there."""
        return ['true']

    def ended(self, seconds: float, code: int) -> None:
        """Keeps nothing."""


def shorter(config: Path) -> dict[str, object]:
    """Overrides of a quick run."""
    known = config_of(config)
    whole = max(20, round(QUICK * known.train_cfg.max_iters))
    options: dict[str, object] = {'train_cfg.max_iters': whole, 'train_cfg.val_interval': whole}
    if 'meta_begin' in known.train_cfg:
        options['train_cfg.meta_begin'] = 0
        options['param_scheduler.student.0.end'] = whole
        options['param_scheduler.fusion.0.end'] = whole
    else:
        options['param_scheduler.0.end'] = whole
    return options


def other_tables(config: Path, seed: int) -> dict[str, object]:
    """Overrides that draw another table for every seed, the same one in all data sets."""

    def places(node: object, path: str) -> list[str]:
        if isinstance(node, Mapping):
            own = [path] if node.get('type') == 'mmkd.DrawnTable' else []
            return own + [e for k, v in node.items() for e in places(v, f'{path}.{k}')]
        if isinstance(node, (list, tuple)):
            return [e for n, v in enumerate(node) for e in places(v, f'{path}.{n}')]
        return []

    known = config_of(config)
    parts = ('train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'custom_hooks')
    found = [place for part in parts for place in places(known.get(part), part)]
    return {f'{place}.seed': seed for place in found}


def training(
    home: Path, seed: int, key: str, quick: bool, script: Path, teacher: Training | None
) -> Training:
    """The training of a row, named by its key."""
    task, row = ROWS[key]
    config = config_path(row.config, task)
    options: dict[str, object] = {
        **seed_options(config, seed),
        **(shorter(config) if quick else {}),
        **other_tables(config, seed),
        **row.options,
    }
    if teacher is not None:
        inside = '.network' if task == TABLE else ''
        options[f'model.teacher{inside}.checkpoint'] = teacher.checkpoint
    data = IMAGE_DATA.identity() if task == IMAGES else None
    job = Training(
        name=key,
        log=home / f'{key}.log',
        needs=() if teacher is None else (teacher.name,),
        label=row.label,
        key=key,
        seed=seed,
        config=config,
        work_dir=home / key,
        clean=clean,
        headline=METRIC,
        needle=METRIC,
        script=script,
        based_on=data if teacher is None else teacher.fingerprint(),
        options=options,
    )
    job.cost = job.iterations * (40.0 if task == IMAGES else 1.0)
    return job


def clean(found: Mapping[str, float]) -> dict[str, float]:
    """Accuracy on the test set and on held-out samples, in percent."""
    return {name: found[name] for name in (METRIC, HELD_OUT) if name in found}


def gain_jobs(
    folder: Path, seed: int, keys: Sequence[str], quick: bool, script: Path = TRAIN
) -> list[Job]:
    """The jobs of one seed: teachers, the rows that learn from them, and the choice among some."""
    home, jobs = folder / f'seed_{seed}', {}
    for task, prefix in PREFIXES.items():
        wanted = [key for key in keys if ROWS[key][0] == task]
        if not wanted:
            continue
        teacher = training(home, seed, prefix + TEACHER, quick, script, None)
        jobs[teacher.name] = teacher
        grid = [prefix + fixed(each) for each in GRID[task]]
        trained = [key for key in wanted if key != prefix + BEST]
        trained += [key for key in grid if prefix + BEST in wanted and key not in wanted]
        for key in trained:
            if key != teacher.name:
                jobs[key] = training(home, seed, key, quick, script, teacher)
        if prefix + BEST in wanted:
            row = ROWS[prefix + BEST][1]
            jobs[prefix + BEST] = Chosen(
                name=prefix + BEST,
                log=home / f'{prefix}{BEST}.log',
                needs=tuple(grid),
                label=row.label,
                key=prefix + BEST,
                seed=seed,
                config=config_path('kd', task),
                headline=METRIC,
                among=[jobs[key] for key in grid],
            )
    name_for_seed(jobs.values(), seed)
    return list(jobs.values())


def missing() -> dict[str, str]:
    """Rows whose data are not here, and why."""
    why = IMAGE_DATA.missing()
    return {key: why for key, (task, _) in ROWS.items() if task == IMAGES and why}


COLUMNS = {'accuracy, %': METRIC, 'held out, %': HELD_OUT, 'ratio': 'ratio'}
GAIN = Gain(
    rows={key: row.label for key, (_, row) in ROWS.items()},
    method='tgeo',
    baseline=BEST,
    metric=METRIC,
    columns=COLUMNS,
    caption=(
        "Accuracy on half of scikit-learn's 1797 digits, as 64 numbers each, of a network with "
        'eight hidden units. A fifth of the training inputs is noise, and the teacher was taught '
        'wrong labels for a third of the samples. A tenth of the training part is held out and '
        'clean: the best fixed ratio is chosen by it, seed by seed, and TGeo-KD learns by it. All '
        'rows have the same iterations.'
    ),
    jobs=gain_jobs,
    further=[
        Further(
            title='a table',
            rows=[key for key in ROWS if key.startswith(PREFIXES[TABLE])],
            method=f'{PREFIXES[TABLE]}tgeo',
            columns=COLUMNS,
            caption=(
                'Accuracy on 4,000 rows of a drawn table of four overlapping clouds, another table '
                'for every seed. 400 rows have labels, a tenth of them is noise; 200 others are '
                'held out. The teacher has seen 8,000 rows, and is wrong about a fifth of all rows.'
            ),
        ),
        Further(
            title='CIFAR-10',
            rows=[key for key in ROWS if key.startswith(PREFIXES[IMAGES])],
            method=f'{PREFIXES[IMAGES]}tgeo',
            columns=COLUMNS,
            caption='ResNet-14 teaches ResNet-8 on 10,800 images of CIFAR-10; nothing is spoilt.',
        ),
    ],
    missing=missing,
)


def measure_speed(args: argparse.Namespace, report: object) -> object:
    """Measures; see ``speed.py``."""
    from benchmark.methods import tgeo_speed

    return tgeo_speed.measure_speed(args, report)
