"""A follower averages what comes, leaves what is not trained, and refuses what is not finite."""

import copy

import pytest
import torch
from torch import nn

from mmdistill.core.follower import Follower
from mmdistill.testing import assert_same_state

YES, NO = torch.tensor(True), torch.tensor(False)


def pair() -> tuple[nn.Module, nn.Module]:
    """Teacher and student that differ everywhere; the first layer is frozen."""
    nets = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
        net[1].running_mean.uniform_()
        net[1].num_batches_tracked.fill_(10 * seed)
        nets.append(net)
    nets[0].requires_grad_(False).eval()
    nets[1][0].requires_grad_(False)
    return nets[0], nets[1]


def follower_of(teacher: nn.Module, student: nn.Module) -> Follower:
    """Ready for a step."""
    follower = Follower(teacher, student)
    follower.look_again()
    return follower


def expected_of(teacher: nn.Module, student: nn.Module, keep: float) -> dict:
    """The average by its formula, in double precision; the first layer stays."""
    pairs = zip(teacher.named_parameters(), student.parameters(), strict=True)
    return {name: (mine if name[0] == '0' else keep * mine.double() + (1 - keep) * theirs.double())
            for (name, mine), theirs in pairs}  # fmt: skip


@pytest.mark.parametrize('keep', [0.0, 0.3, 1.0])
def test_it_averages_the_student_and_says_it_was_finite(keep):
    teacher, student = pair()
    expected, buffers = expected_of(teacher, student, keep), copy.deepcopy(list(teacher.buffers()))
    before = copy.deepcopy(student.state_dict())
    assert bool(follower_of(teacher, student).follow_student(keep))
    for name, value in teacher.named_parameters():
        torch.testing.assert_close(value.double(), expected[name].double(), rtol=1e-6, atol=1e-7)
    assert_same_state(list(teacher.buffers()), buffers)
    assert_same_state(student.state_dict(), before)


def test_chunks_in_any_order_are_the_student():
    """A stream of parts with any split gives what the whole gives."""
    teacher, student = pair()
    twin = copy.deepcopy(teacher)
    follower_of(twin, student).follow_student(0.3)
    trained = [each.detach() for each in student.parameters() if each.requires_grad]
    order = [[2], [0, 3], [1]]
    chunks = ((list(part), [trained[i] for i in part]) for part in order)
    follower_of(teacher, student).follow(chunks, 0.3, YES)
    assert_same_state(teacher, twin)


@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_a_student_that_is_not_finite_is_refused(bad):
    teacher, student = pair()
    before = copy.deepcopy(teacher.state_dict())
    with torch.no_grad():
        student[2].bias[0] = bad
    follower = follower_of(teacher, student)
    assert not bool(follower.follow_student(0.5))
    follower.follow([([0], [torch.ones(3)])], 0.5, NO)
    assert_same_state(teacher.state_dict(), before)


def test_frozen_parts_do_not_decide():
    teacher, student = pair()
    with torch.no_grad():
        student[0].weight.fill_(float('inf'))
    assert bool(follower_of(teacher, student).follow_student(0.5))
    assert teacher[0].weight.isfinite().all()


@pytest.mark.parametrize('policy', ['copy', 'ema', 'skip'])
def test_statistics_by_policy(policy):
    teacher, student = pair()
    mine, theirs = (copy.deepcopy(net[1]) for net in (teacher, student))
    params = copy.deepcopy(list(teacher.parameters()))
    follower_of(teacher, student).statistics(policy, 0.25)
    mean = dict(
        copy=theirs.running_mean,
        ema=0.25 * mine.running_mean + 0.75 * theirs.running_mean,
        skip=mine.running_mean,
    )
    torch.testing.assert_close(teacher[1].running_mean, mean[policy])
    assert int(teacher[1].num_batches_tracked) == (0 if policy == 'skip' else 10)
    assert_same_state(list(teacher.parameters()), params)


@pytest.mark.parametrize('policy', ['copy', 'ema'])
def test_statistics_that_are_not_finite_are_refused(policy):
    teacher, student = pair()
    student[1].running_var[1] = float('inf')
    before = copy.deepcopy(teacher.state_dict())
    follower_of(teacher, student).statistics(policy, 0.25)
    assert_same_state(teacher.state_dict(), before)


def test_what_is_trained_is_looked_up_again():
    teacher, student = pair()
    follower = follower_of(teacher, student)
    student.requires_grad_(True)
    before = teacher[0].weight.clone()
    follower.follow_student(0.0)
    assert torch.equal(teacher[0].weight, before)
    follower.look_again()
    follower.follow_student(0.0)
    assert torch.equal(teacher[0].weight, student[0].weight)


def test_it_follows_a_teacher_that_moved():
    """After a trip to another type and back the parameters lie elsewhere."""
    teacher, student = pair()
    follower = follower_of(teacher, student)
    teacher.double().float()
    follower.look_again()
    follower.follow_student(0.0)
    assert torch.equal(teacher[2].weight, student[2].weight)
    follower.flat.save()
    with torch.no_grad():
        teacher[2].weight.zero_()
    follower.flat.restore()
    assert torch.equal(teacher[2].weight, student[2].weight)
