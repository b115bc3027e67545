"""Plain host checkpoints fill both branches, tensor by tensor, and come out again unchanged."""

import copy
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.runner import load_checkpoint, load_state_dict
from torch import nn

from mmdistill.core.errors import UserError
from mmdistill.core.plain_checkpoint import plain_checkpoint
from mmdistill.core.semi_model import SemiModel
from mmdistill.testing import (
    ToyModel,
    ToySemiModel,
    assert_same_state,
    captured_log,
    state_differences,
    toy_runner,
)


class Versioned(nn.Module):
    """Like a sparse convolution: a checkpoint that does not say version 2 has another layout."""

    _version = 2

    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(3, 3))

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args):
        key = f'{prefix}kernel'
        if key in state_dict and local_metadata.get('version') != 2:
            state_dict[key] = state_dict[key].T
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


class SparseToy(ToyModel):
    """A host with such a layer."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.encoder = nn.Sequential(Versioned())


class WithThresholds(ToySemiModel):
    """A method with state of its own."""

    def __init__(self, model):
        super().__init__(model)
        self.filter = nn.BatchNorm1d(2)
        self.filter.running_mean.fill_(5.0)


def trained_host(seed=3):
    torch.manual_seed(seed)
    host = SparseToy()
    for value in host.state_dict().values():
        value.copy_(torch.randn(value.shape) * 3 if value.is_floating_point() else value + 9)
    return host


def by_torch(model, host, path):
    model.load_state_dict(host.state_dict(), strict=True)


def by_mmengine(model, host, path):
    load_state_dict(model, host.state_dict(), strict=True)


def by_file(model, host, path):
    torch.save(dict(state_dict=host.state_dict(), meta={}), path)
    load_checkpoint(model, str(path), map_location='cpu', strict=True)


def by_runner(model, host, path):
    torch.save(dict(state_dict=host.state_dict(), meta={}), path)
    runner = toy_runner(path.parent / 'run', model, load_from=str(path))
    runner.load_or_resume()


@pytest.mark.parametrize('load', [by_torch, by_mmengine, by_file, by_runner])
@pytest.mark.parametrize('method', [ToySemiModel, WithThresholds])
def test_plain_checkpoint_fills_both_branches(load, method, tmp_path):
    host = trained_host()
    model = method(SparseToy())
    rest = {k: v.clone() for k, v in model.state_dict().items() if k.split('.')[0] in KEPT}
    before = copy.deepcopy(host.state_dict())
    load(model, host, tmp_path / 'plain.pth')
    assert_same_state(model.student, host)
    assert_same_state(model.teacher, host)
    assert_same_state({name: model.state_dict()[name] for name in rest}, rest)
    assert_same_state(host.state_dict(), before)


KEPT = ('teacher_steps', 'skipped_steps', 'unsup_weight', 'filter')


def test_the_trap_is_real():
    """Renaming keys alone would load the sparse kernel in the wrong layout."""
    host, model = trained_host(), ToySemiModel(SparseToy())
    renamed = OrderedDict(
        (f'{name}.{key}', value)
        for name in ('student', 'teacher')
        for key, value in host.state_dict().items()
    )
    model.load_state_dict(renamed, strict=False)
    assert [line.split(':')[0] for line in state_differences(model.student, host)] == [
        'encoder.0.kernel'
    ]


def test_without_versions_as_the_host_itself():
    """A checkpoint of an old layout is converted in the branches as it is in the host."""
    old = dict(trained_host().state_dict().items())
    host, model = SparseToy(), ToySemiModel(SparseToy())
    host.load_state_dict(OrderedDict(old))
    model.load_state_dict(OrderedDict(old))
    assert_same_state(model.student, host)
    assert_same_state(model.teacher, host)


def test_a_loaded_state_dict_can_be_loaded_again():
    host = trained_host()
    state = host.state_dict()
    for _ in range(2):
        model, plain = ToySemiModel(SparseToy()), SparseToy()
        load_state_dict(model, state, strict=True)
        plain.load_state_dict(state)
        assert_same_state(model.teacher, host)
        assert_same_state(plain, host)
    assert list(state) == list(host.state_dict())


def test_inside_another_module():
    torch.manual_seed(3)
    host, model = ToyModel(), nn.ModuleDict(dict(net=ToySemiModel(ToyModel())))
    state = OrderedDict((f'net.{key}', value) for key, value in host.state_dict().items())
    state._metadata = OrderedDict(
        (f'net.{name}'.rstrip('.'), version)
        for name, version in host.state_dict()._metadata.items()
    )
    with captured_log() as lines:
        model.load_state_dict(state, strict=True)
    assert_same_state(model['net'].student, host)
    assert_same_state(model['net'].teacher, host)
    assert any("wrapper ('net.')" in line for line in lines)  # torch hides the versions there


def test_own_checkpoint_loads_normally():
    source, target = WithThresholds(SparseToy()), WithThresholds(SparseToy())
    source.teacher.load_state_dict(trained_host().state_dict())
    source.teacher_steps.fill_(41)
    source.filter.running_mean.fill_(-1)
    load_state_dict(target, source.state_dict(), strict=True)
    assert_same_state(target, source)
    assert state_differences(target.student, target.teacher)


class Nested(ToyModel):
    """A host that has a submodule named student itself."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.student = nn.Linear(2, 2)


def test_content_decides_not_names():
    torch.manual_seed(5)
    host, model = Nested(), ToySemiModel(Nested())
    model.load_state_dict(host.state_dict(), strict=True)
    assert_same_state(model.student, host)
    assert_same_state(model.teacher, host)
    again = ToySemiModel(Nested())
    again.load_state_dict(model.state_dict(), strict=True)
    assert_same_state(again, model)


def test_partly_matching_checkpoint_names_every_difference():
    host, model = trained_host(), ToySemiModel(SparseToy())
    state = host.state_dict()
    del state['head.bias']
    state['neck.weight'] = torch.zeros(2)
    state['head.weight'] = torch.zeros(7, 8)
    kept = model.student.head.bias.detach().clone()
    with captured_log() as lines:
        load_state_dict(model, state, strict=False)
    text = next(line for line in lines if 'plain checkpoint' in line)
    assert text.startswith('WARNING') and 'head.bias' in text and 'neck.weight' in text
    assert 'head.weight (7, 8) for (3, 8)' in text
    assert_same_state(model.student.head.bias.detach(), kept)
    assert_same_state(model.student.backbone, host.backbone)
    assert_same_state(model.teacher.backbone, host.backbone)


def test_a_backbone_alone_is_enough():
    host, model = trained_host(), ToySemiModel(SparseToy())
    part = {k: v for k, v in host.state_dict().items() if k.startswith('backbone')}
    with captured_log() as lines:
        load_state_dict(model, OrderedDict(part), strict=False)
    assert any('head.weight' in line for line in lines)
    assert_same_state(model.student.backbone, host.backbone)
    assert_same_state(model.teacher.backbone, host.backbone)


def test_checkpoint_of_something_else_is_refused():
    with pytest.raises(UserError, match='layer4.conv.*the model has.*backbone'):
        load_state_dict(ToySemiModel(), OrderedDict({'layer4.conv': torch.zeros(1)}), strict=False)


@pytest.mark.parametrize('branch', ['student', 'teacher'])
def test_export_and_back(branch):
    model = ToySemiModel(SparseToy())
    model.teacher.load_state_dict(trained_host().state_dict())
    given = dict(state_dict=model.state_dict(), meta=dict(epoch=3), optimizer={}, message_hub={})
    keys = list(given)
    out = plain_checkpoint(given, branch)
    assert set(out) == {'meta', 'state_dict'} and list(given) == keys
    assert out['meta'] == dict(epoch=3, exported_branch=branch)
    assert list(out['state_dict']) == list(model.branch(branch).state_dict())
    assert out['state_dict']._metadata == model.branch(branch).state_dict()._metadata
    plain = SparseToy()
    plain.load_state_dict(out['state_dict'], strict=True)
    assert_same_state(plain, model.branch(branch))
    again = SemiModel(SparseToy())
    again.load_state_dict(out['state_dict'], strict=True)
    assert_same_state(again.student, plain)


def test_export_errors():
    with pytest.raises(UserError, match="'mentor'"):
        plain_checkpoint(dict(state_dict={}), 'mentor')
    with pytest.raises(UserError, match='no teacher.*backbone.*plain'):
        plain_checkpoint(dict(state_dict=ToyModel().state_dict()), 'teacher')


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda c: c['state_dict'].pop('teacher.head.bias'), 'differ in head.bias'),
        (lambda c: c['state_dict'].update({'student.x': torch.ones(1)}), 'differ in x'),
        (lambda c: c['state_dict'].update({'student.head.bias': 'text'}), 'head.bias.*no tensor'),
        (lambda c: c.update(state_dict=[1]), 'state_dict of the checkpoint is a list'),
        (lambda c: c.update(meta='text'), 'meta of the checkpoint is a str'),
    ],
)
def test_export_of_a_strange_checkpoint_is_refused(change, words):
    content = dict(state_dict=ToySemiModel(ToyModel()).state_dict(), meta=dict(epoch=3))
    change(content)
    with pytest.raises(UserError, match=words):
        plain_checkpoint(content)


def test_export_keeps_what_modules_add_to_the_state():
    state = ToySemiModel(ToyModel()).state_dict()
    state.update({f'{branch}.head._extra_state': dict(a=1) for branch in ('student', 'teacher')})
    assert plain_checkpoint(dict(state_dict=state))['state_dict']['head._extra_state'] == dict(a=1)


def test_an_export_is_read_without_running_code(tmp_path):
    """Hosts keep numpy arrays in ``meta``; torch reads what we write as weights only."""
    meta = dict(
        dataset_meta=dict(
            sigmas=np.array([0.5, 0.25], np.float32),
            CLASSES=('car', 'van'),
            joints={0: np.int64(7)},
        ),
        epoch=3,
        seed=None,
    )
    model = ToySemiModel(ToyModel())
    out = plain_checkpoint(dict(state_dict=model.state_dict(), meta=meta), 'teacher')
    torch.save(out, tmp_path / 'plain.pth')
    read = torch.load(tmp_path / 'plain.pth', weights_only=True)
    assert read['meta'] == dict(
        dataset_meta=dict(sigmas=[0.5, 0.25], CLASSES=['car', 'van'], joints={0: 7}),
        epoch=3,
        seed=None,
        exported_branch='teacher',
    )
    assert isinstance(meta['dataset_meta']['sigmas'], np.ndarray)
