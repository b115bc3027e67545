"""HSSDA on synthetic KITTI: what it gains over labels alone and over a mean teacher."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark.jobs import Job
from benchmark.methods import Further, Gain
from benchmark.overrides import Sizes, length_options, name_for_seed, seed_options
from benchmark.training import ROOT, TRAIN, SyntheticData, Training, config_of

CONFIGS = ROOT / 'configs' / 'hssda'
NAME = '{}_{}_synthetic-kitti.py'
POINTPILLARS = 'pointpillars'
CLASSES = ('Car', 'Pedestrian', 'Cyclist')
METRIC = 'mAP40_3D_moderate'
NO_POOL = 10**9
"""A pool of scores is never this large: thresholds stay at their initial values."""
ROUNDS = 'custom_hooks.3.interval'
"""Iterations between two mining rounds."""
THREE_ROUNDS = {ROUNDS: 150}

FULL = Sizes(train=160, val=150)
QUICK = Sizes(train=40, val=12, shorter=20)

ROWS: Mapping[str, tuple[str, str, Mapping[str, object]]] = {
    'supervised': ('supervised', 'supervised', {}),
    'mean-teacher': ('mean teacher', 'mean-teacher', {}),
    'hssda': ('HSSDA', 'hssda', {}),
    'no-shuffle': ('HSSDA without shuffle', 'hssda', {'model.shuffle': None}),
    # One fixed threshold per score: high and low coincide, so that no box is ambiguous.
    'no-dual': (
        'HSSDA without dual thresholds',
        'hssda',
        {
            'model.thresholds.min_pool': NO_POOL,
            'model.thresholds.init.cls': 0.3,
            'model.thresholds.init.view_iou': 0.5,
        },
    ),
    'no-removal': ('HSSDA without removal', 'hssda', {'model.low': None}),
    'rounds': ('HSSDA, three rounds', 'hssda', THREE_ROUNDS),
    'buffer': (
        'HSSDA, three rounds, training buffer',
        'hssda',
        {**THREE_ROUNDS, 'model.mining.source': 'training_buffer', 'model.mining.scenes': 160},
    ),
}
"""Label, config and overrides by key."""
MINING = ('rounds', 'buffer')
"""Rows of a table of their own: where rounds take the teacher's judgement from."""
BURN_IN = 'burn-in'

TITLES = {'second': 'SECOND', 'centerpoint': 'CenterPoint', 'pv_rcnn': 'PV-RCNN'}
"""Detectors beside PointPillars; the keys of their rows begin with these names."""
KINDS = {
    BURN_IN: BURN_IN,
    'supervised': 'supervised',
    'mean-teacher': 'mean teacher',
    'iou-match': "mean teacher, 3DIoUMatch's filter",
    'hssda': 'HSSDA',
}


def detector_rows(detector: str) -> dict[str, str]:
    """Labels by key of the rows of a detector that has configs for all of them."""
    title = TITLES[detector]
    return {
        f'{detector}-{kind}': f'{label}, {title}'
        for kind, label in KINDS.items()
        if config_path(kind, detector).exists()
    }


def detector_and_kind(key: str) -> tuple[str, str]:
    """The detector of a row and its key among those of that detector."""
    for detector in TITLES:
        if key.startswith(f'{detector}-'):
            return detector, key.removeprefix(f'{detector}-')
    return POINTPILLARS, key


def config_path(name: str, detector: str = POINTPILLARS) -> Path:
    """A config of the comparison by the first part of its name and the detector."""
    return CONFIGS / NAME.format(name, detector.replace('_', '-'))


def data_options(config: Path, root: Path) -> dict[str, object]:
    """Overrides that make a config read another synthetic data set."""
    known = config_of(config)
    split = Path(known.split_file).relative_to(known.data_root)
    options: dict[str, object] = {
        'train_dataloader.dataset.dataset.data_root': f'{root}/',
        'train_dataloader.dataset.split_file': root / split,
    }
    for part in ('val', 'test'):
        options[f'{part}_dataloader.dataset.data_root'] = f'{root}/'
        options[f'{part}_evaluator.ann_file'] = root / 'kitti_infos_val.pkl'
    return options


def clean(found: Mapping[str, float]) -> dict[str, float]:
    """R40 moderate APs, the student's without prefix (the student is what the paper reports)."""
    metrics = {}
    for name, value in found.items():
        name = name.removeprefix('student/').replace('Kitti/', '')
        loose = name.endswith('_loose') or '2D' in name or 'AOS' in name
        if 'AP40' in name and 'moderate' in name and not loose:
            metrics[name.removesuffix('_strict')] = value
    return metrics


def training(
    folder: Path, data: SyntheticData, seed: int, key: str, sizes: Sizes, script: Path = TRAIN
) -> Training:
    """The training of one row; its needs are not set."""
    detector, kind = detector_and_kind(key)
    label, name, options = ROWS.get(key, (BURN_IN, BURN_IN, {}))
    if detector in TITLES:
        label, name = detector_rows(detector)[key], kind
    if ROUNDS in options:
        options = {**options, ROUNDS: max(1, options[ROUNDS] // sizes.shorter)}
    config = config_path(name, detector)
    return Training(
        name=key,
        log=folder / f'{key}.log',
        label=label,
        key=key,
        seed=seed,
        config=config,
        work_dir=folder / key,
        clean=clean,
        headline=METRIC,
        script=script,
        based_on=data.identity(),
        options={
            **data_options(config, data.out),
            **seed_options(config, seed),
            **length_options(config, sizes.shorter),
            **options,
        },
    )


def comparison(
    folder: Path,
    data: SyntheticData,
    seed: int,
    keys: Sequence[str],
    sizes: Sizes,
    script: Path = TRAIN,
) -> list[Job]:
    """Data set, and for each detector its burn-in and the rows that start from it."""
    jobs: list[Job] = [data]
    costs = {'supervised': 1.0, BURN_IN: 1.0, 'mean-teacher': 1.6, 'iou-match': 1.6}
    for detector in dict.fromkeys(detector_and_kind(key)[0] for key in keys):
        prefix = f'{detector}-' if detector in TITLES else ''
        burn_in = training(folder, data, seed, prefix + BURN_IN, sizes, script)
        burn_in.needs = (data.name,)
        jobs.append(burn_in)
        for key in keys:
            if detector_and_kind(key)[0] != detector or key == burn_in.key:
                continue
            row = training(folder, data, seed, key, sizes, script)
            row.options = {**row.options, 'load_from': burn_in.checkpoint}
            row.based_on = burn_in.fingerprint()
            row.needs = (burn_in.name,)
            jobs.append(row)
    for job in jobs[1:]:
        job.cost = job.iterations * costs.get(detector_and_kind(job.key)[1], 2.0)
    data.cost = 0.25 * (sizes.train + sizes.val)
    return jobs


def gain_jobs(
    folder: Path, seed: int, keys: Sequence[str], quick: bool, script: Path = TRAIN
) -> list[Job]:
    """The jobs of one seed."""
    sizes = QUICK if quick else FULL
    home = folder / f'seed_{seed}'
    data = SyntheticData(
        name=f'seed {seed} data',
        log=home / 'data.log',
        kind='kitti',
        out=home / 'data',
        train=sizes.train,
        val=sizes.val,
        seed=seed,
        replace=True,
    )
    jobs = comparison(home, data, seed, keys, sizes, script)
    name_for_seed(jobs[1:], seed)
    return jobs


COLUMNS = {
    **{name: f'{name}_3D_AP40_moderate' for name in CLASSES},
    'mean': METRIC,
    "mean (teacher's)": f'teacher/{METRIC}',
}
FURTHER = {detector: detector_rows(detector) for detector in TITLES}
GAIN = Gain(
    rows={
        **{key: label for key, (label, _, _) in ROWS.items()},
        **{key: label for rows in FURTHER.values() for key, label in rows.items()},
    },
    method='hssda',
    baseline='supervised',
    metric=METRIC,
    columns=COLUMNS,
    caption=(
        'AP (R40, moderate, 3D) on synthetic KITTI; all rows go on from the same burn-in for as '
        'many iterations. The student is evaluated; the last column is the teacher.'
    ),
    jobs=gain_jobs,
    further=[
        Further(
            title='Mining rounds',
            rows=MINING,
            method='buffer',
            columns=COLUMNS,
            caption=(
                'Three mining rounds instead of one, from the same burn-in: each reads all frames, '
                'or the second and third take what the teacher said in the training steps.'
            ),
            baseline='rounds',
        ),
    ]
    + [
        Further(
            title=TITLES[detector],
            rows=list(rows),
            method=f'{detector}-hssda',
            columns=COLUMNS,
            caption=(
                f'The same scenes and budgets with {TITLES[detector]}, which has a burn-in of its '
                'own.'
            ),
            baseline=f'{detector}-supervised',
        )
        for detector, rows in FURTHER.items()
    ],
    detectors={POINTPILLARS: list(ROWS), **{name: list(rows) for name, rows in FURTHER.items()}},
)


def measure_speed(args: argparse.Namespace, report: object) -> object:
    """Measures; see ``speed.py``."""
    from benchmark.methods import hssda_speed

    return hssda_speed.measure_speed(args, report)
