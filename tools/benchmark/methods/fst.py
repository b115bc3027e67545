"""FST on drawn streets and on CamVid: what it gains over labels alone and over mean teachers."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark.jobs import Job
from benchmark.methods import Further, Gain
from benchmark.overrides import Sizes
from benchmark.rows import Comparison, DrawnData, Judged, RealData, Row
from benchmark.training import ROOT, TRAIN

CONFIGS = ROOT / 'configs' / 'fst'
NAME = '{}_resnet-tiny_{}.py'
METRIC = 'mIoU'
CHANGED = 'future/changed_labels'
STREETS = 'streets'
CAMVID = {'camvid-1of8': 'an eighth', 'camvid-1of4': 'a quarter'}
FULL = Sizes(train=400, val=100)
QUICK = Sizes(train=40, val=8, shorter=20)
"""Images of each domain."""


def config_path(name: str, data: str = STREETS) -> Path:
    """A config of the comparison by the first and the last part of its name."""
    return CONFIGS / NAME.format(name, data)


def camvid_rows(data: str) -> dict[str, Row]:
    """Labels alone, a mean teacher and FST on a share of CamVid's labels."""
    share = data.removeprefix('camvid-').replace('of', '/')
    kinds = {
        'supervised': ('supervised', 1.0),
        'mt': ('mean teacher', 2.5),
        'fst': ('FST', 3.5),
    }
    return {
        f'{data}-{key}': Row(f'{label}, CamVid {share}', key, data=data, cost=cost)
        for key, (label, cost) in kinds.items()
    }


ROWS: Mapping[str, Row] = {
    'source-only': Row('source only', 'source-only', data=STREETS),
    'mt': Row('mean teacher', 'mt', data=STREETS, cost=2.4),
    'mt-fast': Row('mean teacher, as fast as FST-D', 'mt-fast', data=STREETS, cost=2.4),
    'fst-d': Row('FST-D', 'fst-d', data=STREETS, cost=3.4),
    # so low a keep factor that the look ahead is real, for the labels of the step alone
    'fst-far': Row(
        'FST-D, far look (ours)',
        'fst-d',
        {'model.policy': 'ephemeral', 'model.virtual_keep': 0.5},
        data=STREETS,
        cost=3.4,
    ),
    'fst-w': Row('FST-W', 'fst-w', data=STREETS, cost=7.2),
    **{key: row for data in CAMVID for key, row in camvid_rows(data).items()},
}


def data_options(config: Path, root: Path) -> dict[str, object]:
    """Overrides that make a config of streets read another data set of the same layout."""
    parts = 'train_dataloader.dataset.datasets'
    source, target = f'{root}/source', f'{root}/target'
    return {
        f'{parts}.0.class_stats': f'{source}/class_stats.json',
        f'{parts}.0.dataset.data_root': source,
        f'{parts}.1.dataset.data_root': target,
        'val_dataloader.dataset.data_root': target,
        'test_dataloader.dataset.data_root': target,
    }


def clean(found: Mapping[str, float]) -> dict[str, float]:
    """mIoU, pixel accuracy and changed labels in percent; the student's come without prefix."""
    found = {name.removeprefix('student/'): value for name, value in found.items()}
    kept = {k: v for k, v in found.items() if k.removeprefix('teacher/') in ('mIoU', 'aAcc')}
    if CHANGED in found:
        kept[CHANGED] = 100 * found[CHANGED]
    return kept


JUDGED = Judged(METRIC, METRIC)
COMPARISON = Comparison(
    rows=ROWS,
    config_path=config_path,
    clean=clean,
    drawn=DrawnData(JUDGED, 'streets', data_options),
    real={
        data: RealData(
            judged=JUDGED,
            what='frames of CamVid',
            config=config_path('fst', data),
            files=('annotations/train/*.png', 'annotations/val/*.png'),
        )
        for data in CAMVID
    },
    watched=(CHANGED,),
)


def gain_jobs(
    folder: Path, seed: int, keys: Sequence[str], quick: bool, script: Path = TRAIN
) -> list[Job]:
    """The jobs of one seed: data and all rows, which start from scratch."""
    return COMPARISON.jobs(folder, seed, keys, QUICK if quick else FULL, script)


COLUMNS = {
    'mIoU': METRIC,
    'pixel accuracy': 'aAcc',
    "mIoU (teacher's)": f'teacher/{METRIC}',
    'new labels, %': CHANGED,
}
GAIN = Gain(
    rows={key: row.label for key, row in ROWS.items()},
    method='fst-d',
    baseline='source-only',
    metric=METRIC,
    columns=COLUMNS,
    caption=(
        'mIoU of 19 classes in percent on drawn streets: labels of a game, unlabelled images of '
        'a camera, validation on the camera. All rows start from scratch and have the same '
        'network, the same number of iterations and as many labelled images per real step; the '
        'virtual steps of FST-W have further ones. The student is evaluated; FST-D moves the '
        'teacher twice per step, hence the second mean teacher, whose keep factor is squared. '
        'New labels: pixels of unlabelled images that the future teacher labels otherwise than '
        'the present one, mean over the training.'
    ),
    jobs=gain_jobs,
    further=[
        Further(
            title=data.replace('camvid-', 'CamVid ').replace('of', '/'),
            rows=[key for key, row in ROWS.items() if row.data == data],
            method=f'{data}-fst',
            columns=COLUMNS,
            caption=(
                f'mIoU of 11 classes in percent on CamVid at half its size, {share} of the 367 '
                'training frames labelled, the same ones for every seed.'
            ),
        )
        for data, share in CAMVID.items()
    ],
    missing=COMPARISON.missing,
)


def measure_speed(args: argparse.Namespace, report: object) -> object:
    """Measures; see ``speed.py``."""
    from benchmark.methods import fst_speed

    return fst_speed.measure_speed(args, report)
