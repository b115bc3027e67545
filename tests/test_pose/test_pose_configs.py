"""The dataset configs of 2D pose: each builds on data of its layout and yields batches."""

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from data_cases import person
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmpose.datasets.datasets.utils import parse_pose_metainfo

from mmdistill.core.samplers import RatioSampler
from mmdistill.pose.pipeline_check import check_pipeline
from mmdistill.registry import DATASETS, TRANSFORMS
from mmdistill.testing.data import real_data

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / 'configs' / '_base_' / 'datasets'
COCO = ('coco-1k', 'coco-5k', 'coco-10k')
NAMES = ('people', 'openfield', 'fly', *COCO, 'coco-wild', 'coco-wild-384x288', 'mpii-aic')

pytestmark = pytest.mark.usefixtures('mmpose_scope')


def load(name):
    """A config of the folder."""
    return Config.fromfile(FOLDER / f'{name}.py')


def built(config):
    """Builds a dataset of a config without COCO's chatter."""
    with contextlib.redirect_stdout(io.StringIO()):
        return DATASETS.build(config)


def sizes(pipeline):
    """Input sizes of the crops of a pipeline."""
    return [tuple(s['input_size']) for s in pipeline if s['type'] == 'TopdownAffine']


@pytest.mark.parametrize('name', NAMES)
def test_training_validation_and_codec_agree(name):
    cfg = load(f'{name}-semi')
    train = cfg.train_dataloader
    assert train.batch_size == train.sampler.batch_size
    width, height = cfg.codec.input_size
    assert width % 32 == 0 and height % 32 == 0
    assert tuple(cfg.codec.heatmap_size) == (width // 4, height // 4)
    for key, labeled in (('labeled_pipeline', True), ('unlabeled_pipeline', False)):
        check_pipeline(train.dataset[key], key, labeled)
        assert sizes(train.dataset[key]) == [(width, height)]
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        assert sizes(loader.dataset.pipeline) == [(width, height)] and loader.dataset.test_mode


@pytest.mark.parametrize('name', NAMES)
def test_a_written_config_is_the_same_config(name, tmp_path):
    cfg = load(f'{name}-semi')
    cfg.dump(tmp_path / 'written.py')
    assert Config.fromfile(tmp_path / 'written.py').to_dict() == cfg.to_dict()


@pytest.mark.parametrize(('name', 'count'), [('openfield', 4), ('fly', 32)])
def test_metainfo_is_complete(name, count):
    meta = parse_pose_metainfo(load(f'{name}-info').dataset_info)
    assert meta['num_keypoints'] == count == len(meta['sigmas'])
    assert len(meta['dataset_keypoint_weights']) == count
    flip = meta['flip_indices']
    assert [flip[i] for i in flip] == list(range(count)) != flip


@pytest.mark.parametrize('name', NAMES)
def test_the_folder_of_real_data_can_be_named(name, monkeypatch, tmp_path):
    monkeypatch.delenv('MMDISTILL_DATA', raising=False)
    assert load(f'{name}-semi').data_root.startswith('data/')
    monkeypatch.setenv('MMDISTILL_DATA', str(tmp_path))
    root = load(f'{name}-semi').train_dataloader.dataset.labeled.dataset.data_root
    assert root.startswith('data/' if name == 'people' else f'{tmp_path}/')


def image(path):
    """Writes an image of noise."""
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    cv2.imwrite(str(path), pixels)


def coco_file(path, names, joints=51):
    """Writes a COCO file with a person on each image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [dict(id=i, file_name=n, width=80, height=60) for i, n in enumerate(names, 1)]
    people = [person(i, i, keypoints=person(i, i)['keypoints'][:joints]) for i in range(1, 4)]
    categories = [dict(id=1, name='person')]
    content = dict(images=images, annotations=people, categories=categories)
    path.write_text(json.dumps(content))


@pytest.fixture
def published(monkeypatch, tmp_path):
    """COCO, MPII and AI Challenger with three images each."""
    monkeypatch.setenv('MMDISTILL_DATA', str(tmp_path))
    coco, aic = tmp_path / 'coco', tmp_path / 'aic'
    names = [f'{i:012d}.jpg' for i in (1, 2, 3)]
    for split in ('train2017', 'val2017', 'unlabeled2017'):
        for name in names:
            image(coco / split / name)
    for split in ('train2017', 'val2017'):
        coco_file(coco / 'annotations' / f'person_keypoints_{split}.json', names)
    content = json.loads((coco / 'annotations' / 'person_keypoints_val2017.json').read_text())
    del content['annotations']
    (coco / 'annotations' / 'image_info_unlabeled2017.json').write_text(json.dumps(content))
    found = [dict(image_id=2, category_id=1, bbox=[5, 5, 30, 40], score=0.5)]
    folder = coco / 'person_detection_results'
    folder.mkdir()
    file = folder / 'COCO_unlabeled2017_detections_person_faster_rcnn.json'
    file.write_text(json.dumps(found))
    place = aic / 'ai_challenger_keypoint_train_20170902' / 'keypoint_train_images_20170902'
    for name in names:
        image(place / name)
        image(tmp_path / 'mpii' / 'images' / name)
    coco_file(aic / 'annotations' / 'aic_train.json', names, joints=42)
    entry = dict(center=[40, 30], scale=0.2, joints=[[20, 30]] * 16, joints_vis=[1] * 16)
    (tmp_path / 'mpii' / 'annotations').mkdir()
    for split in ('train', 'val'):
        text = json.dumps([dict(entry, image=name) for name in names])
        (tmp_path / 'mpii' / 'annotations' / f'mpii_{split}.json').write_text(text)


def batch(cfg, count=4):
    """A batch as the config's sampler draws it."""
    dataset = built(cfg.train_dataloader.dataset)
    sampler = iter(RatioSampler(dataset, count, tuple(cfg.train_dataloader.sampler.ratios)))
    made = pseudo_collate([dataset[next(sampler)] for _ in range(count)])
    width, height = cfg.codec.input_size
    assert torch.stack(made['inputs']).shape == (count, 3, height, width)
    assert [each.labeled for each in made['data_samples']] == [True] * 2 + [False] * 2
    return dataset


@pytest.mark.parametrize('name', [*COCO, 'coco-wild', 'mpii-aic'])
def test_published_layouts_are_read(published, name):
    cfg = load(f'{name}-semi')
    labeled = cfg.train_dataloader.dataset.labeled
    expected = dict(zip(COCO, (1000, 5000, 10000), strict=True)).get(name)
    assert labeled.indices == expected
    labeled.indices = expected and 2
    dataset = batch(cfg)
    assert dataset.source_sizes == (
        2 if expected else 3, 1 if name == 'coco-wild' else 3
    )  # fmt: skip
    if name != 'mpii-aic':
        assert len(built(cfg.val_dataloader.dataset)) == 3


def test_drawn_people(drawn):
    cfg = load('people-semi')
    data, train = cfg.val_dataloader.dataset, cfg.train_dataloader.dataset
    for source in (data, train.labeled.dataset, train.unlabeled):
        source.data_root = str(drawn)
    train.labeled.indices = 4
    dataset = batch(cfg)
    assert 'hidden_keypoints' in dataset[len(dataset) - 1]['data_samples']
    assert built(data)[0]['inputs'].shape == (3, 96, 64)


def test_openfield():
    if real_data('openfield') is None:
        pytest.skip('set MMDISTILL_DATA to a folder that holds openfield/')
    cfg = load('openfield-semi')
    dataset = batch(cfg)
    assert dataset.source_sizes == (10, 86) and dataset.metainfo['dataset_name'] == 'openfield'
    assert len(built(cfg.val_dataloader.dataset)) == 30
    for index in range(10):
        sample = dataset[index]['data_samples']
        joints = sample.gt_instances.keypoints[0].numpy()
        assert (np.abs(joints - 48) < 96).all() and sample.crop.shape == (2, 3)


def test_the_fly(monkeypatch, tmp_path):
    pytest.importorskip('h5py')
    folder = real_data('fly')
    if folder is None:
        pytest.skip('set MMDISTILL_DATA to a folder that holds fly/')
    tool = ROOT / 'tools' / 'dataset_converters' / 'make_fly.py'
    source = folder / 'example_annotation_set.h5'
    command = [sys.executable, str(tool), '--source', str(source), '--out', str(tmp_path / 'fly')]
    subprocess.run(command, check=True, capture_output=True)
    monkeypatch.setenv('MMDISTILL_DATA', str(tmp_path))
    cfg = load('fly-semi')
    assert batch(cfg).source_sizes == (10, 80) and len(built(cfg.val_dataloader.dataset)) == 20


def test_pipelines_of_validation_build():
    for name in NAMES:
        for step in load(f'{name}-semi').val_dataloader.dataset.pipeline:
            assert TRANSFORMS.build(dict(step)) is not None
