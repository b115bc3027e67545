"""The configs of docs/fst.md train on folders of images as a user has them."""

import subprocess
import sys

import pytest
import torch
from doc_configs import ROOT, draw_streets, own_files, written
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from mmengine.runner import Runner

from mmdistill.core import launch

pytestmark = pytest.mark.usefixtures('mmseg_scope')
CONVERTERS = ROOT / 'tools' / 'dataset_converters'


@pytest.fixture(scope='module')
def streets(tmp_path_factory):
    """Drawn streets of both domains, large enough for the crops."""
    return draw_streets(tmp_path_factory.mktemp('drawn') / 'streets', 4, 1, (160, 128))


def converter(name, *words):
    """Runs a tool."""
    command = [sys.executable, '-W', 'ignore', str(CONVERTERS / name), *map(str, words)]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)


def one_step(path):
    """Trains a step of a config; returns the losses and the model."""
    cfg = launch.read_config(path)
    cfg.train_dataloader.update(batch_size=4)
    cfg.train_dataloader.sampler.batch_size = 4
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    model.steps_done += 1
    optim = OptimWrapper(torch.optim.AdamW(model.student.parameters(), lr=1e-3))
    batch = next(iter(Runner.build_dataloader(cfg.train_dataloader, seed=0)))
    losses = model.train_step(batch, optim)
    sample = Runner.build_dataloader(cfg.val_dataloader, seed=0).dataset[0]
    assert sample['data_samples'].gt_sem_seg.data.max() <= 255
    return losses, model, batch


def check(losses, model, batch):
    """Both parts were trained on three classes, without labels of the unlabelled."""
    assert all(torch.isfinite(value) for value in losses.values())
    assert {'sup_decode.loss_ce', 'unsup_decode.loss_ce'} <= losses.keys()
    assert model.student.num_classes == 3
    labels = torch.stack([each.gt_sem_seg.data for each in batch['data_samples']['sup']])
    assert set(labels.unique().tolist()) <= {0, 1, 2, 255}
    assert all('gt_sem_seg' not in each for each in batch['data_samples']['unsup_teacher'])


def test_domain_adaptation(streets, tmp_path):
    source, target = tmp_path / 'source', tmp_path / 'target'
    own_files(streets / 'source/leftImg8bit/train', source / 'images', source / 'labels')
    own_files(streets / 'target/leftImg8bit/train', target / 'images', tmp_path / 'unused')
    own_files(streets / 'target/leftImg8bit/val', target / 'val/images', target / 'val/labels')
    stats = source / 'class_stats.json'
    converter('class_stats.py', source / 'labels', '--num-classes', 3, '--out', stats)
    check(*one_step(written(tmp_path, 'uda', source=source, target=target)))


def test_few_labels(streets, tmp_path):
    root = tmp_path / 'mine'
    for split in ('train', 'val'):
        images = streets / 'target' / 'leftImg8bit' / split
        own_files(images, root / 'images' / split, root / 'labels' / split)
    images = ('--images', root / 'images/train', '--suffix', '.jpg')
    converter('make_seg_split.py', *images, '--sizes', '1/2', '--out', root / 'splits')
    (root / 'splits' / '1_2').rename(root / 'splits' / '1_8')  # four images have no eighth
    check(*one_step(written(tmp_path, 'semi', mine=root)))
