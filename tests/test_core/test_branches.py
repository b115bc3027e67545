"""Branches: independent views, host preprocessing per branch, the loader's batch untouched."""

import copy

import numpy as np
import pytest
import torch
from mmengine.model import BaseDataPreprocessor, ImgDataPreprocessor
from mmengine.registry import TRANSFORMS as ROOT_TRANSFORMS
from mmengine.structures import BaseDataElement

from mmdistill.core.branches import BranchDataPreprocessor, MultiBranch
from mmdistill.core.collate import branch_collate
from mmdistill.core.errors import UserError
from mmdistill.registry import MODELS
from mmdistill.testing import assert_same_state


def add(value):
    """A transform that changes the array in place."""

    def transform(results):
        results['points'] += value
        results['steps'].append(value)
        return results

    return transform


def pack(results):
    sample = BaseDataElement(metainfo=dict(steps=tuple(results['steps'])))
    return dict(inputs=dict(points=torch.from_numpy(results['points'])), data_samples=sample)


def raw():
    return dict(points=np.zeros((5, 3), dtype=np.float32), steps=[])


def test_branches_do_not_see_each_other():
    views = MultiBranch(dict(unsup_teacher=[add(1), pack], unsup_student=[add(2), add(3), pack]))
    results = raw()
    made = views(results)
    assert set(made) == {'inputs', 'data_samples'}
    assert (made['inputs']['unsup_teacher']['points'] == 1).all()
    assert (made['inputs']['unsup_student']['points'] == 5).all()
    assert made['data_samples']['unsup_student'].steps == (2, 3)
    assert (results['points'] == 0).all() and results['steps'] == []


def test_dropped_sample():
    assert MultiBranch(dict(sup=[pack], unsup_student=[lambda results: None]))(raw()) is None


def test_built_from_a_config():
    cfg = dict(type='mmdistill.MultiBranch', branches=dict(sup=[pack]), branch_field=['sup'])
    assert ROOT_TRANSFORMS.build(cfg)(raw())['inputs']['sup']['points'].shape == (5, 3)


@pytest.mark.parametrize(
    'act, words',
    [
        (lambda: MultiBranch({}), 'at least one'),
        (lambda: MultiBranch(dict(unsup_techer=[pack])), "did you mean 'unsup_teacher'"),
        (lambda: MultiBranch(dict(sup=[pack]), branch_field=['a']), 'branch_field'),
        (lambda: MultiBranch(dict(sup=[lambda results: 3]))(raw()), "'sup' ends with a int"),
    ],
)
def test_errors(act, words):
    with pytest.raises(UserError, match=words):
        act()


class Voxels(BaseDataPreprocessor):
    """Like a 3D host: inputs are dicts; writes into the dict it gets."""

    def forward(self, data, training=False):
        data = self.cast_data(data)
        data['inputs']['voxels'] = [len(cloud) for cloud in data['inputs']['points']]
        data['training'] = training
        return data


class Careless(BaseDataPreprocessor):
    """Edits what it gets without copying it."""

    def forward(self, data, training=False):
        data['inputs'].pop('points')
        data['inputs']['gone'] = True
        return data


def batch(names=(('sup',), ('unsup_teacher', 'unsup_student'))):
    made = []
    for index, own in enumerate(names):
        cloud = torch.full((2 + index, 3), float(index))
        made.append(
            dict(
                inputs={name: dict(points=cloud.clone()) for name in own},
                data_samples={name: BaseDataElement(metainfo=dict(i=index)) for name in own},
            )
        )
    return branch_collate(made)


def test_host_preprocesses_every_branch():
    data = BranchDataPreprocessor(Voxels())(batch(), True)
    assert data['inputs']['sup']['voxels'] == [2]
    assert data['inputs']['unsup_student']['voxels'] == [3]
    assert data['training'] == dict(sup=True, unsup_teacher=True, unsup_student=True)
    assert data['data_samples']['unsup_teacher'][0].i == 1
    assert data['branch_index'] == dict(sup=[0], unsup_teacher=[1], unsup_student=[1])


def test_branch_equals_the_host_alone():
    data = BranchDataPreprocessor(Voxels())(batch(), True)
    alone = Voxels()(dict(inputs=batch()['inputs']['sup']), True)
    assert_same_state(data['inputs']['sup'], alone['inputs'])


@pytest.mark.parametrize('host', [Voxels, Careless])
def test_the_loaders_batch_is_not_edited(host):
    data = batch()
    before = copy.deepcopy(data)
    BranchDataPreprocessor(host())(data, True)
    assert list(data) == list(before)
    assert_same_state(data['inputs'], before['inputs'])
    assert data['branch_index'] == before['branch_index']
    assert [s.i for s in data['data_samples']['unsup_student']] == [1]
    plain = dict(inputs=dict(points=[torch.zeros(2, 3)]))
    BranchDataPreprocessor(host())(plain)
    assert list(plain['inputs']) == ['points']


def test_without_branches_as_the_host():
    cfg = dict(type='ImgDataPreprocessor', mean=[1.0] * 3, std=[2.0] * 3)
    made = MODELS.build(dict(type='mmdistill.BranchDataPreprocessor', data_preprocessor=cfg))
    images = dict(inputs=[torch.full((3, 4, 4), 5, dtype=torch.uint8)], data_samples=[None])
    expected = ImgDataPreprocessor(mean=[1.0] * 3, std=[2.0] * 3)(images)
    assert_same_state(made(images)['inputs'], expected['inputs'])
    assert (made(images)['inputs'] == 2).all()


def test_image_branches_are_stacked():
    cfg = dict(type='ImgDataPreprocessor', pad_size_divisor=4)
    images = [
        dict(inputs=dict(sup=torch.ones(3, size, 4), unsup_student=torch.ones(3, 4, size)))
        for size in (3, 5)
    ]
    data = BranchDataPreprocessor(cfg)(branch_collate(images), True)
    assert data['inputs']['sup'].shape == (2, 3, 8, 4)
    assert data['inputs']['unsup_student'].shape == (2, 3, 4, 8)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_moves_the_host_too():
    made = BranchDataPreprocessor(Voxels()).to('cuda')
    assert made(batch())['inputs']['sup']['points'][0].is_cuda
