"""TRS on drawn people and on a filmed mouse: what it gains over labels alone and over its peers."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark.jobs import Job
from benchmark.methods import Further, Gain
from benchmark.overrides import Sizes
from benchmark.rows import Comparison, DrawnData, Judged, RealData, Row
from benchmark.training import ROOT, TRAIN, config_of

CONFIGS = ROOT / 'configs' / 'trs'
NAME = '{}_hrnet-tiny_{}.py'
METRIC = 'coco/AP'
PEOPLE, MOUSE = 'people', 'openfield'
FULL = Sizes(train=1000, val=300)
QUICK = Sizes(train=150, val=24, shorter=20)
"""Images. The config labels the first 30 people, so there must be more than that."""

ROWS: Mapping[str, Row] = {
    'supervised': Row('supervised', 'supervised', data=PEOPLE),
    'posecons': Row('PoseCons', 'posecons', data=PEOPLE, cost=2.4),
    'dualpose': Row('DualPose', 'dualpose', data=PEOPLE, cost=4.6),
    'trs': Row('TRS', 'trs', data=PEOPLE, cost=3.0),
    'no-reviewer': Row(
        'TRS without reviewer',
        'trs',
        {'model.reviewer': None, 'val_cfg.branches': ['student', 'teacher']},
        data=PEOPLE,
        cost=3.0,
    ),
    'no-levels': Row('TRS without multi-level', 'trs', {'model.aux': []}, PEOPLE, cost=3.0),
    # a share of 0 mixes nothing; the cut-outs, which the peers have too, stay
    'no-mix': Row(
        'TRS without Keypoint-Mix', 'trs', {'model.mix.0.mix_weight': [0.0, 0.0]}, PEOPLE, cost=3.0
    ),
    'mouse-supervised': Row('supervised, mouse', 'supervised', data=MOUSE, cost=0.8),
    'mouse-trs': Row('TRS, mouse', 'trs', data=MOUSE, cost=2.4),
}


def config_path(name: str, data: str = PEOPLE) -> Path:
    """A config of the comparison by the first and the last part of its name."""
    return CONFIGS / NAME.format(name, data)


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


COMPARISON = Comparison(
    rows=ROWS,
    config_path=config_path,
    clean=clean,
    drawn=DrawnData(Judged(METRIC, 'AP'), 'people', data_options, flags=('upright',)),
    real={
        MOUSE: RealData(
            judged=Judged('PCK', 'PCK'),
            what='frames of the mouse',
            config=config_path('trs', MOUSE),
            files=('annotations/*.json',),
        )
    },
)


def gain_jobs(
    folder: Path, seed: int, keys: Sequence[str], quick: bool, script: Path = TRAIN
) -> list[Job]:
    """The jobs of one seed: data and all rows, which start from scratch."""
    return COMPARISON.jobs(folder, seed, keys, QUICK if quick else FULL, script)


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
    missing=COMPARISON.missing,
)


def measure_speed(args: argparse.Namespace, report: object) -> object:
    """Measures; see ``speed.py``."""
    from benchmark.methods import trs_speed

    return trs_speed.measure_speed(args, report)
