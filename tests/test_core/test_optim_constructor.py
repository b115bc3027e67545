"""The optimizer holds what the student trains, once, in as few groups as there are settings."""

import pytest
import torch
from mmengine.optim import DefaultOptimWrapperConstructor, build_optim_wrapper
from torch import nn

from mmdistill.core.errors import UserError
from mmdistill.core.optim_constructor import merged_groups
from mmdistill.core.semi_model import SemiModel
from mmdistill.testing import ToyModel, ToySemiModel

TYPE = 'mmdistill.StudentOptimWrapperConstructor'
PARAMWISE = dict(
    norm_decay_mult=0.0, bias_lr_mult=2.0, custom_keys=dict(head=dict(lr_mult=10.0, decay_mult=0.5))
)


class Distiller(ToySemiModel):
    """A method with trained parameters of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.adapter = nn.Linear(2, 2)


def built(model: nn.Module, paramwise: dict | None = None, **settings):
    optimizer = dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.01, **settings)
    cfg = dict(type='OptimWrapper', constructor=TYPE, optimizer=optimizer, paramwise_cfg=paramwise)
    return build_optim_wrapper(model, cfg).optimizer


def held(optimizer: torch.optim.Optimizer) -> list[int]:
    return [id(each) for group in optimizer.param_groups for each in group['params']]


@pytest.mark.parametrize('paramwise', [None, PARAMWISE])
def test_student_and_own_parameters_once_teacher_never(paramwise: dict | None):
    model = Distiller()
    ids = held(built(model, paramwise))
    expected = [*model.student.parameters(), *model.adapter.parameters()]
    assert sorted(ids) == sorted(map(id, expected))


def test_teacher_stays_out_even_when_it_has_gradients():
    model = Distiller()
    for each in model.teacher.parameters():
        each.requires_grad = True
    for paramwise in (None, PARAMWISE):
        assert not set(held(built(model, paramwise))) & set(map(id, model.teacher.parameters()))


def test_groups_have_distinct_settings_and_those_of_mmengine():
    model = ToySemiModel()
    ours = built(model, PARAMWISE)
    cfg = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.01))
    theirs = DefaultOptimWrapperConstructor(cfg, PARAMWISE)(model).optimizer

    def settings(optimizer) -> dict:
        return {
            id(each): (group['lr'], group['weight_decay'])
            for group in optimizer.param_groups
            for each in group['params']
        }

    assert settings(ours) == settings(theirs)
    assert len(theirs.param_groups) == 6
    # weight; its bias; norm weight and bias; head weight and bias
    assert [len(group['params']) for group in ours.param_groups] == [1, 1, 2, 2]


def test_frozen_layers_stay_out():
    model = ToySemiModel()
    model.student.backbone.requires_grad_(False)
    for paramwise in (None, PARAMWISE):
        assert sorted(held(built(model, paramwise))) == sorted(
            map(id, model.student.head.parameters())
        )


def test_same_weights_after_some_steps_as_with_mmengines_constructor():
    results = []
    for constructor in (TYPE, 'DefaultOptimWrapperConstructor'):
        torch.manual_seed(0)
        model = ToySemiModel()
        optimizer = dict(type='AdamW', lr=0.01, weight_decay=0.1)
        optim = build_optim_wrapper(
            model, dict(constructor=constructor, optimizer=optimizer, paramwise_cfg=PARAMWISE)
        )
        for _ in range(3):
            optim.update_params(model.student(torch.ones(4, 4)).square().sum())
        results.append(model.student.state_dict())
    for name, value in results[0].items():
        torch.testing.assert_close(value, results[1][name], rtol=0, atol=0)


def test_plain_models_work_too():
    model = ToyModel()
    assert held(built(model)) == [id(each) for each in model.parameters()]


def test_nothing_to_train_is_an_error():
    model = SemiModel(ToyModel()).requires_grad_(False)
    for paramwise in (None, PARAMWISE):
        with pytest.raises(UserError, match='SemiModel has no parameter to train'):
            built(model, paramwise)


def test_merging_keeps_order_and_distinguishes_values():
    a, b, c, d = (torch.zeros(1) for _ in range(4))
    groups = [dict(params=[a], lr=1.0), dict(params=[b], lr=2.0), dict(params=[c], lr=1.0)]
    groups.append(dict(params=[d]))
    merged = merged_groups(groups)
    assert [(group.get('lr'), len(group['params'])) for group in merged] == [
        (1.0, 2),
        (2.0, 1),
        (None, 1),
    ]
    assert merged[0]['params'][1] is c


@pytest.mark.parametrize('paramwise', [None, PARAMWISE])
def test_a_submodule_that_is_frozen_as_a_whole_stays_out(paramwise: dict | None, caplog):
    model = Distiller()
    model.adapter.requires_grad_(False)
    assert sorted(held(built(model, paramwise))) == sorted(map(id, model.student.parameters()))
    assert not [each for each in caplog.records if 'adapter' in each.getMessage()]
