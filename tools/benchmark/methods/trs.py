"""TRS on drawn people and on a filmed mouse: what it gains over labels alone and over its peers."""

from __future__ import annotations

import argparse
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.jobs import Job
from benchmark.methods import Further, Gain
from benchmark.overrides import Sizes, length_options, name_for_seed, seed_options
from benchmark.training import ROOT, TRAIN, SyntheticData, Training, config_of

CONFIGS = ROOT / 'configs' / 'trs'
NAME = '{}_hrnet-tiny_{}.py'
METRIC = 'coco/AP'
PEOPLE, MOUSE = 'people', 'openfield'
FULL = Sizes(train=1000, val=300)
QUICK = Sizes(train=150, val=24, shorter=20)
"""Images. The config labels the first 30 people, so there must be more than that."""


@dataclass(frozen=True)
class Row:
    """One row of the comparison.

    Attributes:
        label: in tables.
        config: first part of the config's name.
        options: overrides by dotted key.
        data: last part of the config's name.
        cost: relative to a step on labels alone.
    """

    label: str
    config: str
    options: Mapping[str, object] = field(default_factory=dict)
    data: str = PEOPLE
    cost: float = 3.0


ROWS: Mapping[str, Row] = {
    'supervised': Row('supervised', 'supervised', cost=1.0),
    'posecons': Row('PoseCons', 'posecons', cost=2.4),
    'dualpose': Row('DualPose', 'dualpose', cost=4.6),
    'trs': Row('TRS', 'trs'),
    'no-reviewer': Row(
        'TRS without reviewer',
        'trs',
        {'model.reviewer': None, 'val_cfg.branches': ['student', 'teacher']},
    ),
    'no-levels': Row('TRS without multi-level', 'trs', {'model.aux': []}),
    # a share of 0 mixes nothing; the cut-outs, which the peers have too, stay
    'no-mix': Row('TRS without Keypoint-Mix', 'trs', {'model.mix.0.mix_weight': [0.0, 0.0]}),
    'mouse-supervised': Row('supervised, mouse', 'supervised', data=MOUSE, cost=0.8),
    'mouse-trs': Row('TRS, mouse', 'trs', data=MOUSE, cost=2.4),
}


def config_path(name: str, data: str = PEOPLE) -> Path:
    """A config of the comparison by the first and the last part of its name."""
    return CONFIGS / NAME.format(name, data)


def mouse_folder() -> Path:
    """Where the config of the mouse looks for its frames."""
    return Path(config_of(config_path('trs', MOUSE)).data_root)


def missing() -> dict[str, str]:
    """Rows of the mouse, when its frames are not here."""
    folder = mouse_folder()
    if (folder / 'annotations' / 'train.json').is_file():
        return {}
    why = f'no frames of the mouse in {folder} (MMDISTILL_DATA names the folder of all data sets)'
    return {key: why for key, row in ROWS.items() if row.data == MOUSE}


def data_options(config: Path, root: Path) -> dict[str, object]:
    """Overrides that make a config of people read another data set of the same layout."""
    val_file = root / Path(config_of(config).val_file)
    source = 'train_dataloader.dataset'
    options: dict[str, object] = {
        f'{source}.labeled.dataset.data_root': f'{root}/',
        f'{source}.unlabeled.data_root': f'{root}/',
    }
    for part in ('val', 'test'):
        options[f'{part}_dataloader.dataset.data_root'] = f'{root}/'
        options[f'{part}_evaluator.ann_file'] = val_file
    return options


def clean(found: Mapping[str, float]) -> dict[str, float]:
    """AP, AR and PCK in percent and EPE in pixels; the student's come without prefix."""
    metrics = {}
    for name, value in found.items():
        name = name.removeprefix('student/')
        metric = name.removeprefix('teacher/').removeprefix('reviewer/')
        if metric in ('coco/AP', 'coco/AP .5', 'coco/AP .75', 'coco/AR', 'PCK'):
            # COCO's evaluation says -1 where nothing is to be found
            metrics[name] = 100 * value if value >= 0 else math.nan
        elif metric == 'EPE':
            metrics[name] = value
    return metrics


def training(
    folder: Path, seed: int, key: str, sizes: Sizes, script: Path, data: SyntheticData
) -> Training:
    """The training of one row."""
    row = ROWS[key]
    config = config_path(row.config, row.data)
    people = row.data == PEOPLE
    job = Training(
        name=key,
        log=folder / f'{key}.log',
        needs=(data.name,) if people else (),
        label=row.label,
        key=key,
        seed=seed,
        config=config,
        work_dir=folder / key,
        clean=clean,
        headline=METRIC if people else 'PCK',
        needle='AP' if people else 'PCK',
        script=script,
        based_on=data.identity() if people else _mouse_identity(),
        options={
            **(data_options(config, data.out) if people else {}),
            **seed_options(config, seed),
            **length_options(config, sizes.shorter),
            **row.options,
        },
    )
    job.cost = job.iterations * row.cost
    return job


def _mouse_identity() -> str:
    """Hash of the annotations of the mouse."""
    digest = hashlib.sha256()
    for path in sorted((mouse_folder() / 'annotations').glob('*.json')):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def gain_jobs(
    folder: Path, seed: int, keys: Sequence[str], quick: bool, script: Path = TRAIN
) -> list[Job]:
    """The jobs of one seed: data and all rows, which start from scratch."""
    sizes = QUICK if quick else FULL
    home = folder / f'seed_{seed}'
    data = SyntheticData(
        name=f'seed {seed} data',
        log=home / 'data.log',
        kind='people',
        out=home / 'data',
        train=sizes.train,
        val=sizes.val,
        seed=seed,
        flags=('upright',),
        replace=True,
        cost=0.2 * (sizes.train + sizes.val),
    )
    rows = [training(home, seed, key, sizes, script, data) for key in keys]
    needed = any(row.needs for row in rows)
    name_for_seed(rows, seed)
    return [data, *rows] if needed else list(rows)


GAIN = Gain(
    rows={key: row.label for key, row in ROWS.items()},
    method='trs',
    baseline='supervised',
    metric=METRIC,
    columns={
        'AP': METRIC,
        'AP .5': 'coco/AP .5',
        'AR': 'coco/AR',
        "AP (teacher's)": f'teacher/{METRIC}',
        "AP (reviewer's)": f'reviewer/{METRIC}',
    },
    caption=(
        'COCO keypoint AP in percent on drawn people, true boxes, no flip test; 30 people have '
        'labels, all others none. All rows start from scratch and have the same network, the same '
        'number of iterations and as many labelled people per step. The student is evaluated; '
        "DualPose's teacher is its second network, elsewhere the teacher is an average of students."
    ),
    jobs=gain_jobs,
    further=[
        Further(
            title='mouse',
            rows=[key for key, row in ROWS.items() if row.data == MOUSE],
            method='mouse-trs',
            columns={
                'PCK': 'PCK',
                'EPE, pixels': 'EPE',
                "PCK (teacher's)": 'teacher/PCK',
                "EPE (teacher's)": 'teacher/EPE',
            },
            caption=(
                'A mouse filmed from above, 10 labelled frames of 86, 30 others for validation. '
                'PCK: share of joints within 5 % of the box, in percent; EPE: mean distance.'
            ),
        )
    ],
    missing=missing,
)


def measure_speed(args: argparse.Namespace, report: object) -> object:
    """Measures; see ``speed.py``."""
    from benchmark.methods import trs_speed

    return trs_speed.measure_speed(args, report)
