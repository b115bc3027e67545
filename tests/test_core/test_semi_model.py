"""SemiModel: two equal branches, a teacher that nothing thaws, losses with names and weights."""

import copy

import pytest
import torch
from mmengine.model import BaseDataPreprocessor, ImgDataPreprocessor
from mmengine.registry import MODELS as ROOT_MODELS

from mmdistill.core.branches import BranchDataPreprocessor
from mmdistill.core.collate import branch_collate
from mmdistill.core.errors import UserError
from mmdistill.core.semi_model import SemiModel
from mmdistill.testing import (
    ToyCloudModel,
    ToyDataset,
    ToyModel,
    ToySemiModel,
    assert_same_state,
    state_differences,
    toy_runner,
)

ALL = ('sup', 'unsup_teacher', 'unsup_student')


def batch(branches=ALL, points=0, size=6):
    dataset = ToyDataset(branches=branches, points=points)
    return branch_collate([dataset[index] for index in range(size)])


def test_branches_start_equal_and_independent():
    model = ToySemiModel()
    assert_same_state(model.student, model.teacher)
    mine = {id(tensor) for tensor in model.student.state_dict(keep_vars=True).values()}
    assert not mine & {id(each) for each in model.teacher.state_dict(keep_vars=True).values()}


@pytest.mark.parametrize('given', [dict(type=ToyModel, channels=5), ToyModel(channels=5)])
def test_built_from_config_or_instance(given):
    before = copy.deepcopy(given.state_dict() if isinstance(given, ToyModel) else given)
    model = SemiModel(given)
    model.student.head.weight.data.zero_()
    assert model.teacher.head.weight.shape == (3, 5) and model.teacher.head.weight.any()
    after = given.state_dict() if isinstance(given, ToyModel) else given
    assert not state_differences(before, after)


def test_unprefixed_types_resolve_in_the_hosts_scope():
    cfg = dict(type='mmdistill.SemiModel', model=dict(type='BaseTTAModel', module=ToyModel()))
    with pytest.raises(Exception, match='BaseTTAModel|abstract'):
        ROOT_MODELS.build(cfg)  # found by name in mmengine, though it cannot be built
    assert type(ROOT_MODELS.build(dict(type='mmdistill.SemiModel', model=ToyModel()))) is SemiModel


def test_init_weights_makes_the_teacher_a_copy_once():
    model = ToySemiModel(ToyModel(init_cfg=dict(type='Constant', layer='Linear', val=0.25)))
    model.init_weights()
    assert (model.student.head.weight == 0.25).all()
    assert_same_state(model.student, model.teacher)
    model.teacher.head.weight.fill_(7.0)
    model.init_weights()
    assert (model.teacher.head.weight == 7).all(), 'a second call must not reset the teacher'


def test_init_weights_draws_for_the_student_only():
    init = dict(type='Normal', layer='Linear', std=1.0)
    torch.manual_seed(0)
    alone = ToyModel(init_cfg=init)
    model = ToySemiModel(alone)
    torch.manual_seed(1)
    alone.init_weights()
    after = torch.get_rng_state()
    torch.manual_seed(1)
    model.init_weights()
    assert torch.equal(after, torch.get_rng_state())
    assert_same_state(model.student, alone)


@pytest.mark.parametrize('act', ['train', 'wrapped_train', 'requires_grad', 'twice', 'eval'])
def test_teacher_never_thaws(act):
    model = ToySemiModel()
    if act == 'wrapped_train':
        torch.nn.Sequential(model).train()
    elif act == 'requires_grad':
        model.requires_grad_(True)
    elif act == 'twice':
        model.eval().train().train(True)
    else:
        getattr(model, act)()
    assert not any(module.training for module in model.teacher.modules())
    assert not any(parameter.requires_grad for parameter in model.teacher.parameters())
    assert all(parameter.requires_grad for parameter in model.student.parameters())
    assert model.student.backbone.training is (act not in ('eval',))


def test_gradients_reach_the_student_alone():
    model = ToySemiModel().train()
    teacher = copy.deepcopy(model.teacher.state_dict())
    losses = model(**model.data_preprocessor(batch(), True), mode='loss')
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    assert all(parameter.grad is None for parameter in model.teacher.parameters())
    assert all(parameter.grad is not None for parameter in model.student.parameters())
    assert_same_state(model.teacher.state_dict(), teacher)


def test_loss_template_against_the_host():
    """sup_* and unsup_* are the host's own losses times the weights."""
    model = ToySemiModel(semi_train_cfg=dict(sup_weight=3.0)).eval()
    model.unsup_weight.fill_(0.5)
    data = batch()
    losses = model(**data, mode='loss')
    assert set(losses) == {'sup_loss_cls', 'sup_acc', 'unsup_loss_cls', 'unsup_acc'}
    sup = model.student(data['inputs']['sup'], data['data_samples']['sup'], mode='loss')
    torch.testing.assert_close(losses['sup_loss_cls'], 3 * sup['loss_cls'])
    assert losses['sup_acc'] == sup['acc']
    pseudo = model.pseudo_samples(data['inputs']['unsup_teacher'], data['data_samples'])
    unsup = model.student(data['inputs']['unsup_student'], pseudo, mode='loss')
    torch.testing.assert_close(losses['unsup_loss_cls'], unsup['loss_cls'] / 2)


def test_loss_twice_leaves_the_same_model():
    model = ToySemiModel().eval()
    before, data = copy.deepcopy(model.state_dict()), batch()
    first = model(**data, mode='loss')
    assert_same_state(first, model(**data, mode='loss'))
    assert_same_state(model.state_dict(), before)


@pytest.mark.parametrize(
    'branches, prefixes',
    [(('sup',), {'sup'}), (('unsup_teacher', 'unsup_student'), {'unsup'}), (ALL, {'sup', 'unsup'})],
)
def test_absent_branches_have_no_losses(branches, prefixes):
    losses = ToySemiModel()(**batch(branches), mode='loss')
    assert {name.split('_')[0] for name in losses} == prefixes


def test_dicts_of_point_clouds():
    model = ToySemiModel(ToyCloudModel())
    losses = model(**model.data_preprocessor(batch(points=5), True), mode='loss')
    assert all(value.isfinite() for value in losses.values())


def test_weighted_handles_lists_and_leaves_other_entries():
    weighted = SemiModel.weighted(
        dict(loss_box=[torch.ones(2), torch.ones(1)], loss=torch.ones(()), recall=0.5), 'sup', 2.0
    )
    assert [each.tolist() for each in weighted['sup_loss_box']] == [[2, 2], [2]]
    assert weighted['sup_loss'] == 2 and weighted['sup_recall'] == 0.5


@pytest.mark.parametrize('name', ['student', 'teacher'])
def test_predicts_on_the_chosen_branch(name):
    model = ToySemiModel(semi_test_cfg=dict(predict_on=name)).eval()
    model.student.head.weight.data.zero_()
    vectors = torch.randn(5, 4)
    assert_same_state(model(vectors), model.branch(name)(vectors))
    found = model.test_step(dict(inputs=list(vectors), data_samples=None))
    expected = model.branch(name)(vectors).softmax(1)
    assert_same_state(torch.stack([each.pred_scores for each in found]), expected)


def test_the_hosts_preprocessor_is_the_default():
    host = dict(type='ImgDataPreprocessor', mean=[10.0] * 3, std=[2.0] * 3)
    model = SemiModel(ToyModel(data_preprocessor=host))
    assert isinstance(model.data_preprocessor, BranchDataPreprocessor)
    assert isinstance(model.data_preprocessor.data_preprocessor, ImgDataPreprocessor)
    given = SemiModel(ToyModel(), data_preprocessor=BaseDataPreprocessor())
    assert type(given.data_preprocessor) is BaseDataPreprocessor


def test_branch_state_is_the_plain_models():
    model = ToySemiModel()
    ToyModel().load_state_dict(model.branch_state_dict('teacher'), strict=True)


def test_what_must_survive_is_in_the_state_dict():
    model = ToySemiModel()
    own = {name for name in model.state_dict() if name.split('.')[0] not in ('student', 'teacher')}
    assert own == {'teacher_steps', 'skipped_steps', 'unsup_weight'}


@pytest.mark.parametrize(
    'act, words',
    [
        (lambda: SemiModel(ToyModel(), semi_train_cfg=dict(sup_weigth=1)), "mean 'sup_weight'"),
        (lambda: SemiModel(ToyModel(), semi_test_cfg=dict(predict='teacher')), 'semi_test_cfg'),
        (lambda: SemiModel(ToyModel(), semi_test_cfg=dict(predict_on='mentor')), "'mentor'"),
        (lambda: SemiModel(ToyModel()).branch('reviewer'), "'reviewer'"),
        (lambda: ToySemiModel()(**batch(('unsup_student',)), mode='loss'), "no 'unsup_teacher'"),
        (lambda: ToySemiModel()(**batch(('unsup_teacher',)), mode='loss'), 'MultiBranch'),
    ],
)
def test_errors_are_clear(act, words):
    with pytest.raises(UserError, match=words):
        act()


def test_a_base_class_says_what_is_missing():
    with pytest.raises(NotImplementedError, match='SemiModel has no pseudo_samples'):
        SemiModel(ToyModel())(**batch(), mode='loss')


def test_learns_in_a_runner(tmp_path):
    model = ToySemiModel(score_thr=0.4)
    runner = toy_runner(
        tmp_path, model, 40, ToyDataset(branches=ALL, jitter=0.1), batch_size=8,
        hooks=[dict(type='mmdistill.TeacherUpdateHook', momentum=dict(
            type='mmdistill.ConstantMomentum', keep=0.8))],
    )  # fmt: skip
    runner.train()
    dataset = ToyDataset()
    for name in ('student', 'teacher'):
        right = model.eval().branch(name)(dataset.vectors).argmax(1) == dataset.labels
        assert right.float().mean() > 0.8
    assert int(model.teacher_steps) == 40
    assert state_differences(model.student, model.teacher)
