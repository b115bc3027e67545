"""Three real KITTI frames through the tools: infos, HSSDA training, test; skipped without them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmdistill.testing.data import real_data

ROOT = Path(__file__).resolve().parents[1]
KITTI = real_data('kitti')
TINY = 'hssda_pointpillars_synthetic-kitti.py'
KITTI_1_PERCENT = 'hssda_pointpillars_6xb10-80e_kitti-3d-3class-semi-0.01.py'

pytestmark = pytest.mark.skipif(KITTI is None, reason='MMDISTILL_DATA holds no kitti')


def run(*words: str) -> str:
    """Runs a tool and returns what it printed."""
    environment = dict(os.environ, OMP_NUM_THREADS='1')
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Info files and a split of two labelled frames; the data folder is only read."""
    out = tmp_path_factory.mktemp('kitti')
    for name in ('train', 'val'):
        run(
            'tools/dataset_converters/create_kitti_infos.py',
            *('--root', str(KITTI), '--out', str(out), '--name', name, '--reduced'),
            *('--split-ids', '0', '1', '2'),
        )
    (out / 'labeled.txt').write_text('000000\n000002\n')
    return out


def options(folder: Path) -> list[str]:
    """Overrides that point a config at the folder."""
    return [
        f'train_dataloader.dataset.dataset.data_root={folder}/',
        f'train_dataloader.dataset.split_file={folder}/labeled.txt',
        f'val_dataloader.dataset.data_root={folder}/',
        f'test_dataloader.dataset.data_root={folder}/',
        f'val_evaluator.ann_file={folder}/kitti_infos_val.pkl',
        f'test_evaluator.ann_file={folder}/kitti_infos_val.pkl',
    ]


def test_ten_iterations_and_predictions_on_real_frames(folder, tmp_path):
    before = sorted(path.stat().st_mtime_ns for path in KITTI.rglob('*'))
    schedule = [
        'train_cfg.max_iters=10',
        'train_cfg.val_interval=10',
        'param_scheduler.0.total_steps=10',
        'custom_hooks.3.interval=5',
        'default_hooks.checkpoint.interval=5',
        'default_hooks.logger.interval=1',
        'load_from=None',
    ]
    config = str(ROOT / 'configs/hssda' / TINY)
    printed = run(
        'tools/train.py',
        *(config, '--work-dir', str(tmp_path), '--cfg-options', *options(folder), *schedule),
    )
    assert 'mining round 2' in printed and 'AP40' in printed
    saved = torch.load(tmp_path / 'iter_10.pth', weights_only=False)['state_dict']
    assert all(value.isfinite().all() for value in saved.values())
    assert int(saved['teacher_steps']) == 10
    tested = run(
        'tools/test.py',
        *(config, str(tmp_path / 'iter_10.pth'), '--work-dir', str(tmp_path / 'test')),
        *('--cfg-options', *options(folder)),
    )
    assert 'AP40' in tested
    assert before == sorted(path.stat().st_mtime_ns for path in KITTI.rglob('*'))


def test_an_epoch_of_the_kitti_config_on_real_frames(folder, tmp_path):
    """The paper's model and schedule, three iterations of one frame each."""
    small = [
        'load_from=None',
        'train_cfg.max_epochs=1',
        'train_cfg.val_interval=1',
        'train_dataloader.batch_size=1',
        'default_hooks.logger.interval=1',
        'custom_hooks.3.num_workers=0',
    ]
    for part in ('train', 'val'):
        small += [
            f'{part}_dataloader.{key}' for key in ('num_workers=0', 'persistent_workers=False')
        ]
    printed = run(
        'tools/train.py',
        *(str(ROOT / 'configs/hssda' / KITTI_1_PERCENT), '--work-dir', str(tmp_path)),
        *('--cfg-options', *options(folder), *small),
    )
    assert 'mining round 1' in printed and 'AP40' in printed
    saved = torch.load(tmp_path / 'epoch_1.pth', weights_only=False)['state_dict']
    assert all(value.isfinite().all() for value in saved.values())
    assert int(saved['teacher_steps']) == 3
