"""Branch collate: any order of labelled and unlabelled samples, any nesting, an index map."""

from itertools import permutations

import pytest
import torch
from mmengine.registry import FUNCTIONS as ROOT_FUNCTIONS
from mmengine.structures import BaseDataElement
from torch.utils.data import DataLoader

from mmdistill.core.collate import branch_collate
from mmdistill.core.errors import UserError
from mmdistill.testing import ToyDataset


def cloud(index):
    return {'points': torch.full((index + 1, 4), float(index)), 'extra': {'deep': torch.ones(2)}}


def labeled(index):
    return dict(inputs=dict(sup=cloud(index)), data_samples=dict(sup=BaseDataElement()))


def unlabeled(index):
    names = ('unsup_teacher', 'unsup_student')
    return dict(
        inputs={name: cloud(index) for name in names},
        data_samples={name: BaseDataElement() for name in names},
    )


def with_nones(sample):
    """The same sample as mmdet's MultiBranch writes it: absent branches are None."""
    names = ('sup', 'unsup_teacher', 'unsup_student')
    return {field: {name: parts.get(name) for name in names} for field, parts in sample.items()}


@pytest.mark.parametrize('order', sorted(set(permutations('LLUU'))))
@pytest.mark.parametrize('form', [lambda sample: sample, with_nones])
def test_any_order(order, form):
    made = [form(labeled(i) if kind == 'L' else unlabeled(i)) for i, kind in enumerate(order)]
    data = branch_collate(made)
    positions = {
        'sup': [i for i, kind in enumerate(order) if kind == 'L'],
        'unsup_teacher': [i for i, kind in enumerate(order) if kind == 'U'],
        'unsup_student': [i for i, kind in enumerate(order) if kind == 'U'],
    }
    assert data['branch_index'] == positions
    for name, own in positions.items():
        points = data['inputs'][name]['points']
        assert [len(each) for each in points] == [i + 1 for i in own]
        assert len(data['inputs'][name]['extra']['deep']) == 2
        assert len(data['data_samples'][name]) == 2


def test_branch_without_any_sample_is_absent():
    assert set(branch_collate([labeled(0), labeled(1)])['inputs']) == {'sup'}


def test_tensors_as_inputs():
    samples = [
        dict(inputs=dict(sup=torch.zeros(3))),
        dict(inputs=dict(unsup_student=torch.ones(3))),
    ]
    data = branch_collate(samples)
    assert data['inputs']['sup'][0].sum() == 0 and data['inputs']['unsup_student'][0].sum() == 3
    stacked = branch_collate(samples, form='default')
    assert stacked['inputs']['unsup_student'].shape == (1, 3)


def test_a_field_that_a_branch_does_not_have():
    samples = [
        dict(inputs=dict(sup=torch.zeros(3), unsup_student=torch.zeros(3)), label=dict(sup=1))
    ]
    assert branch_collate(samples)['label'] == dict(sup=[1])


@pytest.mark.parametrize('workers', [0, 1])
def test_in_a_data_loader(workers):
    made = ROOT_FUNCTIONS.get('mmdistill.branch_collate')
    dataset = ToyDataset(size=6, branches=('sup', 'unsup_student'), points=4)
    loader = DataLoader(dataset, batch_size=3, collate_fn=made, num_workers=workers)
    sizes = [[len(c) for c in data['inputs']['sup']['points']] for data in loader]
    assert sizes == [[4, 5, 6], [4, 5, 6]]


@pytest.mark.parametrize(
    'samples, settings, words',
    [
        ([], {}, 'empty'),
        ([labeled(0), dict(inputs=dict(sup=None))], {}, 'sample 1 .* no branch'),
        ([dict(inputs=torch.zeros(3))], {}, "'inputs' .* Tensor.*MultiBranch"),
        ([labeled(0)], dict(form='stack'), "'stack'"),
        ([labeled(0), dict(inputs=dict(sup=cloud(1)))], {}, "'sup'.*'data_samples'"),
    ],
)
def test_errors_are_clear(samples, settings, words):
    with pytest.raises(UserError, match=words):
        branch_collate(samples, **settings)
