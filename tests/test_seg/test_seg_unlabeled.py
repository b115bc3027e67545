"""Unlabelled images: no label is needed, and none that exists has any effect."""

import copy

import numpy as np
import pytest
import torch
from label_cases import write_scenes

from mmdistill.core.errors import UserError
from mmdistill.core.rng import seed_cpu
from mmdistill.registry import DATASETS

pytestmark = pytest.mark.usefixtures('mmseg_scope')
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResize', scale=(60, 50), ratio_range=(0.8, 1.2), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(24, 24)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]


@pytest.fixture
def config(tmp_path):
    """A labelled dataset of three images."""
    scenes = {f'{n:05d}': {n: 500, 7: 900} for n in range(3)}
    return dict(write_scenes(tmp_path, scenes), pipeline=PIPELINE)


def unlabeled(config, **changes):
    """The dataset without labels."""
    inner = {**copy.deepcopy(config), **changes}
    return DATASETS.build(dict(type='mmdistill.UnlabeledSegDataset', dataset=inner))


def samples(data):
    """All samples under one seed."""
    seed_cpu(5)
    return [data[index] for index in range(len(data))]


def test_labels_have_no_effect_on_any_sample(config, tmp_path):
    before = samples(unlabeled(config))
    for path in (tmp_path / 'labels').iterdir():
        path.write_bytes(np.random.default_rng(3).bytes(200))
    poisoned = samples(unlabeled(config))
    for path in (tmp_path / 'labels').iterdir():
        path.unlink()
    without = samples(unlabeled(config))
    for a, b, c in zip(before, poisoned, without, strict=True):
        assert torch.equal(a['inputs'], b['inputs']) and torch.equal(a['inputs'], c['inputs'])
        for sample in (a, b, c):
            assert 'gt_sem_seg' not in sample['data_samples']
            assert 'seg_map_path' not in sample['data_samples'].metainfo


def test_paths_of_labels_are_taken_away(config):
    data = unlabeled(config)
    assert len(data) == 3
    for index in range(3):
        info = data.get_data_info(index)
        assert 'seg_map_path' not in info and info['img_path'].endswith(f'{index:05d}.png')


def test_a_dataset_that_finds_labels_by_itself_does_not_pass_them_on(config):
    data = unlabeled(config)
    inner = data.dataset
    original = inner.get_data_info
    inner.get_data_info = lambda index: dict(original(index), seg_map_path='somewhere.png')
    assert 'seg_map_path' not in data.get_data_info(0)
    assert 'seg_map_path' not in data[0]['data_samples'].metainfo


@pytest.mark.parametrize(
    ('transform', 'said'),
    [
        (dict(type='LoadAnnotations'), 'reads labels'),
        (dict(type='mmdistill.CheckedSegAnnotations', num_classes=19), 'reads labels'),
        (dict(type='RandomCrop', crop_size=(8, 8), cat_max_ratio=0.75), 'cat_max_ratio=0.75'),
        (dict(type='RandomApply', transforms=[dict(type='LoadAnnotations')]), 'reads labels'),
        (
            dict(type='RandomChoice', transforms=[[dict(type='LoadAnnotations')], []]),
            'reads labels',
        ),
    ],
)
def test_transforms_that_need_labels_are_refused_at_once(config, transform, said):
    with pytest.raises(UserError, match=said):
        unlabeled(config, pipeline=[PIPELINE[0], transform, PIPELINE[-1]])


def test_a_label_made_by_a_foreign_transform_is_refused(config):
    def invent(results):
        return dict(results, gt_seg_map=np.zeros(results['img_shape'], np.uint8))

    data = unlabeled(config, pipeline=[PIPELINE[0], invent, PIPELINE[-1]])
    with pytest.raises(UserError, match='00000.png: the unlabelled pipeline made a label'):
        data[0]


def test_a_pipeline_without_result_is_an_error(config):
    data = unlabeled(config, pipeline=[PIPELINE[0], lambda results: None])
    with pytest.raises(UserError, match='00000.png: the unlabelled pipeline returned nothing'):
        data[0]


def test_it_can_stand_beside_a_labelled_dataset(config):
    inner = dict(type='mmdistill.UnlabeledSegDataset', dataset=config)
    both = DATASETS.build(dict(type='ConcatDataset', datasets=[config, inner]))
    assert len(both) == 6 and both.metainfo == both.datasets[1].metainfo
    assert 'seg_map_path' in both.get_data_info(0) and 'seg_map_path' not in both.get_data_info(3)


def test_the_config_is_left_as_it_was(config):
    before = copy.deepcopy(config)
    DATASETS.build(dict(type='mmdistill.UnlabeledSegDataset', dataset=config))
    assert config == before
