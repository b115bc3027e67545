"""A resumed training is the unbroken one; an exported branch is the plain segmentor."""

import copy
import importlib.util
from pathlib import Path

import pytest
import torch
from fst_cases import SIZE, batch_of, fst, run, segmentor_config, state_of, wrapper_of
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_checkpoint

from mmdistill.core.compat import safe_load
from mmdistill.testing import assert_same_state

TOOL = Path(__file__).resolve().parents[2] / 'tools/model_converters/export_branch.py'
ISOLATED = dict(optimizer_state='isolated', buffers='isolated')


@pytest.mark.parametrize(
    'options',
    [
        dict(depth=3),
        dict(policy='official_w', depth=1, width=2),
        dict(policy='official_ssl', depth=2, joint_forward=True, mix=None),
        dict(policy='ephemeral', depth=2, virtual_keep=0.5, **ISOLATED),
        dict(policy='mt', feature_distance=dict(thing_classes=(1,)), teacher_buffers='ema'),
    ],
    ids=['deep', 'wide', 'ssl', 'ephemeral', 'mt'],
)
@pytest.mark.parametrize('done', [0, 2])
def test_resumed_equals_unbroken(options, done, tmp_path):
    """Counters, teacher, optimizer, reference and draws go on where they were."""
    whole = fst(**options)
    optim = wrapper_of(whole)
    run(whole, optim, done)
    saved = dict(state_dict=whole.state_dict(), optimizer=optim.state_dict())
    torch.save(saved, tmp_path / 'cut.pth')
    run(whole, optim, 3, start=done)
    rest = fst(seed=5, **options)
    other = wrapper_of(rest)
    saved = torch.load(tmp_path / 'cut.pth', weights_only=True)
    rest.load_state_dict(saved['state_dict'])
    other.load_state_dict(saved['optimizer'])
    run(rest, other, 3, start=done)
    assert_same_state(state_of(rest, other.optimizer), state_of(whole, optim.optimizer))


def test_counters_are_read_anew_when_a_running_model_is_loaded():
    model = fst(depth=1)
    optim = wrapper_of(model)
    run(model, optim, 1)
    saved = copy.deepcopy((model.state_dict(), optim.state_dict()))
    run(model, optim, 3, start=1)
    expected = state_of(model, optim.optimizer)
    model.load_state_dict(saved[0])
    optim.load_state_dict(saved[1])
    run(model, optim, 3, start=1)
    assert_same_state(state_of(model, optim.optimizer), expected)


def test_a_plain_checkpoint_fills_student_and_teacher():
    source, model = fst(seed=3), fst(feature_distance=dict(thing_classes=(1,)))
    reference = copy.deepcopy(model.reference.state_dict())
    model.load_state_dict(source.student.state_dict())
    for branch in (model.student, model.teacher):
        assert_same_state(branch, source.student)
    assert_same_state(model.reference.state_dict(), reference)


@pytest.mark.parametrize('branch', ['student', 'teacher'])
def test_an_exported_branch_predicts_the_same(branch, tmp_path):
    auxiliary = segmentor_config(auxiliary=True)
    model = fst(segmentor=auxiliary, depth=1, semi_test_cfg=dict(predict_on=branch),
                feature_distance=dict(thing_classes=(1,)))  # fmt: skip
    run(model, wrapper_of(model), 3)
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'semi.pth')
    spec = importlib.util.spec_from_file_location('export_branch', TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    count = tool.export_branch(tmp_path / 'semi.pth', tmp_path / 'plain.pth', branch)
    with DefaultScope.overwrite_default_scope('mmseg'):
        plain = MODELS.build(ConfigDict(auxiliary))
    assert count == len(plain.state_dict())
    assert_same_state(safe_load(tmp_path / 'plain.pth')['state_dict'],
                      model.branch_state_dict(branch))  # fmt: skip
    load_checkpoint(plain, str(tmp_path / 'plain.pth'), map_location='cpu', strict=True)
    data = batch_of(9)
    data = dict(inputs=data['inputs']['sup'], data_samples=data['data_samples']['sup'])
    found = model.eval().test_step(copy.deepcopy(data))
    expected = plain.eval().test_step(copy.deepcopy(data))
    for one, two in zip(found, expected, strict=True):
        assert torch.equal(one.pred_sem_seg.data, two.pred_sem_seg.data)
        assert torch.equal(one.seg_logits.data, two.seg_logits.data)
        assert one.pred_sem_seg.shape == SIZE
    other = fst(segmentor=auxiliary)
    assert not torch.equal(other.eval().test_step(data)[0].seg_logits.data,
                           found[0].seg_logits.data)  # fmt: skip
