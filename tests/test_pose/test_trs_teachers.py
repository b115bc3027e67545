"""TRS with a teacher by gradient or none, its random numbers, and half precision."""

import copy
import math

import pytest
import torch
from semi_cases import (
    OTHERS,
    POINTS,
    batch,
    drawn,
    estimator,
    gradients,
    losses_of,
    of,
    pseudo_of,
    sorted_batch,
    trs,
)

from mmdistill.core.modes import batch_norms
from mmdistill.pose import semi_pose
from mmdistill.pose.losses import heatmap_mse
from mmdistill.testing import assert_same_state

pytestmark = pytest.mark.usefixtures('mmpose_scope')


def test_a_teacher_by_gradient_learns_from_its_own_losses_alone():
    model, data = trs(teacher=dict(mode='grad')), batch()
    losses = losses_of(model, data)
    mine = [name for name in losses if name.startswith('teacher_')]
    assert mine == ['teacher_sup_loss_kpt', 'teacher_unsup_loss_kpt']
    networks = {n: [*getattr(model, n).parameters()] for n in ('student', 'levels', 'teacher')}

    def reached(names):
        loss = sum(losses[name] for name in names)
        found = {}
        for key, parameters in networks.items():
            grads = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
            found[key] = all(each is not None for each in grads)
            assert found[key] or all(each is None for each in grads)
        return found

    assert reached(mine) == dict(student=False, levels=False, teacher=True)
    others = [name for name in losses if name not in mine]
    assert reached(others) == dict(student=True, levels=True, teacher=False)
    assert not any(p.requires_grad for p in model.reviewer.parameters())


def test_a_teacher_by_gradient_follows_the_students_easy_view():
    model, data = trs(teacher=dict(mode='grad'), hard_view=None, mix=None, reviewer=None), batch()
    crops = sorted_batch(model, data)
    student, teacher = drawn(model, POINTS), drawn(model, OTHERS)
    calls, plain = [], model.easy_heatmaps

    def easy(network, images):
        calls.append('student' if network is model.student else 'teacher')
        plain(network, images)
        return student if network is model.student else teacher

    model.easy_heatmaps = easy
    losses = losses_of(model, data)
    assert calls == ['teacher', 'student']
    wanted = copy.deepcopy(model.teacher)
    level = wanted.head(wanted.extract_feat(torch.cat([crops.labeled, crops.easy])))[2:]
    assert torch.allclose(losses['teacher_unsup_loss_kpt'], heatmap_mse(level, student), rtol=1e-5)
    for part in (model.student, model.teacher):
        assert {int(each.num_batches_tracked) for each in batch_norms(part)} == {1}
    model.mutual = False
    assert 'teacher_unsup_loss_kpt' not in losses_of(model, data)
    model.mutual, model.unsup_active = True, False
    assert [*losses_of(model, data)][-1] == 'teacher_sup_loss_kpt' and len(calls) == 3


def test_the_students_own_easy_view_teaches_without_gradient():
    model, data = trs(teacher=dict(mode='self'), reviewer=None), batch()
    crops, twin = sorted_batch(model, data), copy.deepcopy(model)
    pseudo = pseudo_of(model, data)
    assert_same_state(model.student, twin.student)
    assert not pseudo.terms[0][0].requires_grad and model.student.training
    wanted = copy.deepcopy(model.student)
    expected = wanted.head(wanted.extract_feat(crops.easy))
    assert torch.allclose(model.easy_heatmaps(model.student, crops.easy), expected, atol=1e-6)
    found = gradients(model, data)
    hard = twin.student_levels(crops.labeled, pseudo.images)
    losses = [*twin.labeled_losses(hard[0], crops).values()]
    losses += twin.unlabeled_losses(hard[1], pseudo).values()
    sum(losses).backward()
    assert_same_state(model.student, twin.student)  # statistics moved by one pass, not by two
    for name, value in twin.named_parameters():
        assert value.grad is None or torch.allclose(found[name], value.grad, atol=1e-7), name
    assert not of(found, 'teacher')


def test_the_easy_view_of_a_student_with_frozen_statistics_uses_them():
    given = estimator()
    given['backbone']['norm_eval'] = True
    model = trs(teacher=dict(mode='self'), estimator=given)
    images = sorted_batch(model, batch()).easy
    wanted = copy.deepcopy(model.student)
    with torch.no_grad():
        expected = wanted.head(wanted.extract_feat(images))
        assert torch.allclose(model.easy_heatmaps(model.student, images), expected, atol=1e-6)
    modes = {part.training for part in batch_norms(model.student.backbone)}
    assert modes == {False} and model.student.head.training


def test_draws_are_a_function_of_seed_iteration_and_rank(monkeypatch):
    data = batch(2, 4)

    def view(**changes):
        model = trs(**{k: v for k, v in changes.items() if k not in ('at', 'rank', 'noise')})
        model.cur_iter = changes.get('at', 3)
        monkeypatch.setattr(semi_pose, 'get_rank', lambda: changes.get('rank', 0))
        torch.manual_seed(changes.get('noise', 0))
        before = torch.get_rng_state()
        images = pseudo_of(model, data).images
        assert torch.equal(torch.get_rng_state(), before)
        return images

    first = view()
    assert torch.equal(view(), first) and torch.equal(view(noise=9), first)
    for change in (dict(at=4), dict(rank=1)):
        assert not torch.equal(view(**change), first)
    other = trs()
    other.seed, other.cur_iter = 1, 3
    monkeypatch.setattr(semi_pose, 'get_rank', lambda: 0)
    assert not torch.equal(pseudo_of(other, data).images, first)


@pytest.mark.parametrize('mode', ['ema', 'grad'])
def test_half_precision(mode):
    model, data = trs(teacher=dict(mode=mode), confidence=0.1, masks='own'), batch()
    with torch.autocast('cpu', torch.bfloat16):
        losses = losses_of(model, data)
    assert len(losses) >= 6 and all(math.isfinite(value) for value in losses.values())
    sum(losses.values()).backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert grads and all(each.isfinite().all() for each in grads)
    exact = losses_of(trs(teacher=dict(mode=mode), confidence=0.1, masks='own'), data)
    assert abs(losses['sup_loss_kpt'] - exact['sup_loss_kpt']) < 0.05 * exact['sup_loss_kpt']
