"""Teacher Intervention on sentences and images: accuracy of ternary students by their budget."""

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

CONFIGS = ROOT / 'projects' / 'mmkd' / 'configs' / 'teacher_intervention'
SENTENCES, IMAGES = 'bert-tiny_sst2', 'vit-tiny_cifar10'
METRIC = 'accuracy'
QUICK = 0.1
"""Scale of all phases in a quick run."""
CURVE_POINTS = 10
"""Validations of a full training."""
NO_TEACHER = {
    f'model.weights.{name}': 0.0 for name in ('prediction', 'hidden', 'joined', 'scores')
} | {'model.weights.labels': 1.0}
TEACHER = 'teacher'


@dataclass(frozen=True)
class Row:
    """One student, or the teacher.

    Attributes:
        label: in tables.
        config: first part of the config's name.
        options: overrides by dotted key.
        budget: share of the config's iterations; interventions stay as long as they are.
    """

    label: str
    config: str
    options: Mapping[str, object] = field(default_factory=dict)
    budget: float = 1.0


STUDENTS: Mapping[str, Row] = {
    TEACHER: Row('teacher, full precision', TEACHER),
    'qat': Row('QAT, labels alone', 'qat-kd', NO_TEACHER),
    'qat-kd': Row('QAT + KD', 'qat-kd'),
    'ti-o': Row('TI-O', 'ti-g', {'model.schedule': 'output'}),
    'ti-m': Row('TI-M', 'ti-g', {'model.schedule': 'map'}),
    'ti-g': Row('TI-G', 'ti-g'),
    'qat-kd-half': Row('QAT + KD, 1/2', 'qat-kd', budget=0.5),
    'ti-g-half': Row('TI-G, 1/2', 'ti-g', budget=0.5),
    'qat-kd-quarter': Row('QAT + KD, 1/4', 'qat-kd', budget=0.25),
    'ti-g-quarter': Row('TI-G, 1/4', 'ti-g', budget=0.25),
    'qat-kd-tenth': Row('QAT + KD, 1/10', 'qat-kd', budget=0.1),
    'ti-g-tenth': Row('TI-G, 1/10', 'ti-g', budget=0.1),
}
BUDGETS = tuple(key for key, row in STUDENTS.items() if row.budget < 1)
PREFIX = 'cifar-'
ROWS: Mapping[str, tuple[str, Row]] = {
    **{key: (SENTENCES, row) for key, row in STUDENTS.items()},
    **{
        PREFIX + key: (IMAGES, Row(f'{row.label}, CIFAR-10', row.config, row.options, row.budget))
        for key, row in STUDENTS.items()
    },
}
"""Task and row by key."""


def config_path(name: str, task: str) -> Path:
    """A config by the first and the last part of its name."""
    return CONFIGS / f'{name}_{task}.py'


DATA: Mapping[str, RealData] = {
    SENTENCES: RealData(
        judged=Judged(METRIC, METRIC),
        what='sentences of SST-2',
        config=config_path(TEACHER, SENTENCES),
        files=('train.tsv', 'dev.tsv'),
    ),
    IMAGES: RealData(
        judged=Judged(METRIC, METRIC),
        what='images of CIFAR-10',
        config=config_path(TEACHER, IMAGES),
        files=('cifar10_subset.zip',),
    ),
}


def length_options(config: Path, budget: float, scale: float = 1.0) -> dict[str, object]:
    """Overrides for another number of iterations; every phase keeps the form of its schedule.

    Args:
        config: of one phase, or of two.
        budget: share of all iterations; a first phase stays as long as it is.
        scale: of all phases, for a quick run.
    """
    if budget == scale == 1:
        return {}
    known = config_of(config)
    cfg = known.train_cfg
    before = cfg.get('first_iters', 0)
    first = round(scale * before)
    whole = round(budget * scale * cfg.max_iters)
    last = ('train_cfg.second_scheduler' if before else 'param_scheduler', whole - first)
    phases = [(*last, cfg.max_iters - before)]
    options: dict[str, object] = {
        'train_cfg.max_iters': whole,
        'train_cfg.val_interval': max(1, whole // CURVE_POINTS),
    }
    if before:
        phases.append(('param_scheduler', first, before))
        options.update({'train_cfg.first_iters': first, 'model.intervention_steps': first})
    for where, length, former in phases:
        given = cfg.second_scheduler if where.startswith('train') else known.param_scheduler
        begin = 0
        for number, each in enumerate(given):
            options[f'{where}.{number}.begin'] = begin
            begin = max(begin + 1, round(length * each['end'] / former))
            options[f'{where}.{number}.end'] = begin
    return options


def training(
    home: Path, seed: int, key: str, quick: bool, script: Path, teacher: Training | None
) -> Training:
    """The training of a row, named by its key."""
    task, row = ROWS[key]
    config = config_path(row.config, task)
    options: dict[str, object] = {
        **seed_options(config, seed),
        **length_options(config, row.budget, QUICK if quick else 1.0),
        **row.options,
    }
    if teacher is not None:
        options['model.teacher.checkpoint'] = teacher.checkpoint
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
        curve=METRIC,
        headline=METRIC,
        needle=METRIC,
        script=script,
        based_on=DATA[task].identity() if teacher is None else teacher.fingerprint(),
        options=options,
    )
    job.cost = job.iterations * (1.0 if teacher is None else 2.0) * (1 + 5 * (task == IMAGES))
    return job


def clean(found: Mapping[str, float]) -> dict[str, float]:
    """Accuracy, in percent as logged."""
    return {METRIC: found[METRIC]}


def gain_jobs(
    folder: Path, seed: int, keys: Sequence[str], quick: bool, script: Path = TRAIN
) -> list[Job]:
    """The jobs of one seed: teachers, and the rows that start from them."""
    home, jobs = folder / f'seed_{seed}', {}
    for prefix in ('', PREFIX):
        wanted = [key for key in keys if key.startswith(PREFIX) == bool(prefix)]
        if not wanted:
            continue
        teacher = training(home, seed, prefix + TEACHER, quick, script, None)
        jobs[teacher.name] = teacher
        for key in wanted:
            if key != teacher.name:
                jobs[key] = training(home, seed, key, quick, script, teacher)
    name_for_seed(jobs.values(), seed)
    return list(jobs.values())


def missing() -> dict[str, str]:
    """Rows whose data are not here, and why."""
    reasons = {task: data.missing() for task, data in DATA.items()}
    return {key: reasons[task] for key, (task, _) in ROWS.items() if reasons[task]}


COLUMNS = {'accuracy, %': METRIC}
GAIN = Gain(
    rows={key: row.label for key, (_, row) in ROWS.items()},
    method='ti-g',
    baseline='qat-kd',
    metric=METRIC,
    columns=COLUMNS,
    caption=(
        'Accuracy on the validation sentences of SST-2 (6,919 to train with) of a BERT with four '
        'layers of width 128: the teacher from scratch, and ternary students with 8-bit '
        'activations that start from it. All students have the same iterations, those of '
        'interventions included.'
    ),
    jobs=gain_jobs,
    further=[
        Further(
            title='shorter budgets',
            rows=BUDGETS,
            method='ti-g-half',
            columns=COLUMNS,
            caption='The same with fewer iterations, interventions included.',
        ),
        Further(
            title='CIFAR-10',
            rows=[key for key in ROWS if key.startswith(PREFIX)],
            method=f'{PREFIX}ti-g',
            columns=COLUMNS,
            caption='The same for a ViT with 12,000 images of CIFAR-10.',
        ),
    ],
    missing=missing,
)


def measure_speed(args: argparse.Namespace, report: object) -> object:
    """Measures; see ``speed.py``."""
    from benchmark.methods import ti_speed

    return ti_speed.measure_speed(args, report)
