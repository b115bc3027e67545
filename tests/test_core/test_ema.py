"""EMA: a convex mean of every tensor, exact for constants, closed to what is not finite."""

import copy

import pytest
import torch
from torch import nn

from mmdistill.core.ema import all_finite, ema_update, finite_numbers, paired_tensors
from mmdistill.testing import ToyModel, assert_same_state, state_differences

KEEPS = [0.0, 0.1, 0.5, 0.7498, 0.9996, 1.0]
DEVICES = ['cpu', pytest.param('cuda', marks=pytest.mark.skipif('not torch.cuda.is_available()'))]


def toy(seed=0, device='cpu'):
    """A model whose parameters and buffers are all different from each other's."""
    torch.manual_seed(seed)
    model = ToyModel()
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape) + 0.5)
        else:
            tensor.fill_(7 + seed)
    return model.to(device)


def teacher_and_student(device='cpu'):
    teacher, student = toy(0, device), toy(1, device)
    teacher.requires_grad_(False)
    return teacher, student


def snapshot(model):
    return copy.deepcopy(model.state_dict())


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('keep', KEEPS)
@pytest.mark.parametrize('buffers', ['copy', 'ema', 'skip'])
def test_one_update_against_float64(keep, buffers, device):
    teacher, student = teacher_and_student(device)
    old, new = snapshot(teacher), snapshot(student)
    assert bool(ema_update(teacher, student, keep, buffers))
    assert_same_state(student.state_dict(), new)
    parameters = {name for name, _ in teacher.named_parameters()}
    for name, value in teacher.state_dict().items():
        if name in parameters or (buffers == 'ema' and value.is_floating_point()):
            expected = keep * old[name].double() + (1 - keep) * new[name].double()
            torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-6)
        else:
            assert_same_state(value, old[name] if buffers == 'skip' else new[name])


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize('keep', KEEPS)
def test_average_of_a_constant_is_the_constant(keep, dtype, device):
    student = toy(1).to(device=device, dtype=dtype)
    teacher = copy.deepcopy(student)
    before = snapshot(teacher)
    for _ in range(5):
        ema_update(teacher, student, keep, 'ema')
    assert_same_state(teacher.state_dict(), before)


def test_many_updates_against_float64():
    teacher, student = teacher_and_student()
    reference = {name: value.double() for name, value in teacher.state_dict().items()}
    generator = torch.Generator().manual_seed(3)
    for step in range(60):
        keep = min(0.5 + step / 100, 0.99)
        for value in student.state_dict().values():
            if value.is_floating_point():
                value.add_(0.1 * torch.randn(value.shape, generator=generator))
        ema_update(teacher, student, keep, 'ema')
        for name, value in student.state_dict().items():
            reference[name] = keep * reference[name] + (1 - keep) * value.double()
    for name, value in teacher.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), reference[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('device', DEVICES)
def test_foreach_equals_a_loop_bit_for_bit(device):
    teacher, student = teacher_and_student(device)
    looped = copy.deepcopy(teacher)
    ema_update(teacher, student, 0.9, 'ema')
    for old, new in zip(looped.state_dict().values(), student.state_dict().values(), strict=True):
        old.copy_(old.lerp(new, 1 - 0.9) if old.is_floating_point() else new)
    assert_same_state(teacher.state_dict(), looped.state_dict())


def test_keep_one_and_zero():
    teacher, student = teacher_and_student()
    before = snapshot(teacher)
    ema_update(teacher, student, 1.0, 'skip')
    assert_same_state(teacher.state_dict(), before)
    ema_update(teacher, student, 0.0, 'copy')
    assert_same_state(teacher.state_dict(), student.state_dict())


def test_in_place_and_frozen():
    teacher, student = teacher_and_student()
    places = [tensor.data_ptr() for tensor in teacher.state_dict().values()]
    ema_update(teacher, student, 0.5)
    assert places == [tensor.data_ptr() for tensor in teacher.state_dict().values()]
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(parameter.requires_grad for parameter in student.parameters())


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize('where', ['head.weight', 'backbone.1.running_var'])
@pytest.mark.parametrize('buffers', ['copy', 'ema', 'skip'])
def test_student_that_is_not_finite_leaves_every_bit(where, value, buffers, device):
    teacher, student = teacher_and_student(device)
    before = snapshot(teacher)
    student.state_dict()[where].view(-1)[-1] = value
    finite = ema_update(teacher, student, 0.5, buffers)
    read = buffers != 'skip' or 'running' not in where
    assert bool(finite) is not read
    if read:
        assert_same_state(teacher.state_dict(), before)


def test_large_numbers_are_finite():
    assert bool(finite_numbers([torch.full((1000,), 3e38)]))
    assert bool(finite_numbers([torch.tensor([1e308, 1.0], dtype=torch.float64)]))
    assert not bool(finite_numbers([torch.ones(3), torch.tensor([1.0, float('nan')])]))
    assert not bool(finite_numbers([torch.tensor([1.0, -float('inf')])]))


class Masked(nn.Module):
    """A module with a mask of minus infinity and an empty and a frozen tensor."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3))
        self.frozen = nn.Parameter(torch.tensor([1.0, -float('inf')]), requires_grad=False)
        self.empty = nn.Parameter(torch.empty(0))
        self.register_buffer('mask', torch.tensor([0.0, -float('inf')]))
        self.register_buffer('flags', torch.tensor([True, False]))


@pytest.mark.parametrize('buffers', ['copy', 'ema', 'skip'])
def test_shared_infinite_constants_are_fine(buffers):
    teacher, student = Masked(), Masked()
    student.flags.fill_(True)
    old = teacher.weight.detach().clone()
    assert bool(ema_update(teacher, student, 0.5, buffers))
    torch.testing.assert_close(teacher.weight, (old + student.weight) / 2)
    assert_same_state(teacher.mask, student.mask)
    assert_same_state(teacher.frozen, student.frozen)
    assert teacher.flags.tolist() == ([True, False] if buffers == 'skip' else [True, True])
    student.mask[0] = float('nan')
    assert bool(ema_update(teacher, student, 0.5, buffers)) is (buffers == 'skip')


def test_integers_are_never_averaged():
    teacher, student = teacher_and_student()
    teacher.seen.fill_(0)
    student.seen.fill_(1001)
    ema_update(teacher, student, 0.5, 'ema')
    assert int(teacher.seen) == 1001 and teacher.seen.dtype == torch.long


def test_types_may_differ():
    """A half-precision student moves a float32 teacher in float32."""
    teacher, student = nn.Linear(3, 2), nn.Linear(3, 2)
    student.half()
    old = copy.deepcopy(teacher.state_dict())
    ema_update(teacher, student, 0.9)
    for name, value in teacher.state_dict().items():
        assert value.dtype == torch.float32
        expected = 0.9 * old[name] + 0.1 * student.state_dict()[name].float()
        torch.testing.assert_close(value, expected)


def test_nothing_to_average():
    assert bool(ema_update(nn.ReLU(), nn.ReLU(), 0.5))
    assert bool(all_finite(paired_tensors(nn.ReLU(), nn.ReLU())))


def test_errors_name_what_differs():
    with pytest.raises(ValueError, match="'copy', 'ema', 'skip'"):
        ema_update(nn.Linear(1, 1), nn.Linear(1, 1), 0.5, 'average')
    with pytest.raises(ValueError, match=r"'weight' \(\(1, 1\) and \(1, 2\)\)"):
        ema_update(nn.Linear(1, 1), nn.Linear(2, 1), 0.5)
    with pytest.raises(ValueError, match="'running_mean' .*nothing"):
        student = nn.BatchNorm1d(2, track_running_stats=False)
        ema_update(nn.BatchNorm1d(2), student, 0.5)


def test_state_comparison_sees_a_bit():
    """The instrument of these tests: one unit in the last place, NaN, and the sign of zero."""
    a = torch.tensor([1.0, float('nan'), 0.0])
    assert not state_differences({'x': [a]}, {'x': [a.clone()]})
    b = a.clone()
    b[0] = torch.nextafter(b[0], torch.tensor(2.0))
    assert state_differences({'x': [a]}, {'x': [b]})[0].startswith('x[0]: 1 of 3 differ')
    b = a.clone()
    b[2] = -0.0
    assert state_differences(a, b) and state_differences(a, a.double())
    assert state_differences({'a': 1}, {'b': 1}) == [
        'a: only in the first',
        'b: only in the second',
    ]
