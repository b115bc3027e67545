"""The average that chooses on the device equals the one that asks, for awkward modules too."""

import copy

import pytest
import torch
from torch import nn

from mmdistill.core.ema import BUFFER_POLICIES, all_finite, apply_ema, ema_update, paired_tensors
from mmdistill.testing import assert_same_state


class AwkwardNet(nn.Module):
    """BatchNorm, frozen, empty, scalar and complex parameters, masks, hidden buffers."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.randn(shape, generator=generator, dtype=dtype)

        self.conv, self.norm = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)
        for each in self.parameters():
            each.data.copy_(draw(*each.shape))
        self.frozen = nn.Parameter(draw(4), requires_grad=False)
        self.wide = nn.Parameter(draw(3, dtype=torch.float64))
        self.complex = nn.Parameter(torch.complex(draw(2), draw(2)))
        self.empty, self.scalar = nn.Parameter(draw(0, 3)), nn.Parameter(draw())
        self.norm.running_mean.copy_(draw(5))
        self.norm.running_var.copy_(draw(5).square())
        self.register_buffer('count', torch.tensor(seed))
        self.register_buffer('mask', torch.full((2, 2), float('-inf')).triu(1))
        self.register_buffer('hidden', draw(3), persistent=False)


def everything(module: nn.Module) -> dict:
    """Copies of all parameters and buffers by name, also of those that are not saved."""
    named = [*module.named_parameters(), *module.named_buffers()]
    return {name: each.detach().clone() for name, each in named}


@pytest.mark.parametrize('buffers', BUFFER_POLICIES)
@pytest.mark.parametrize('keep', [0.0, 0.3, 0.9996, 1.0])
def test_both_ways_give_the_same_bits_and_equal_a_loop(keep: float, buffers: str):
    student, asked, chosen, looped = (AwkwardNet(seed) for seed in (2, 1, 1, 1))
    for _ in range(3):
        apply_ema(paired_tensors(asked, student, buffers), keep, torch.tensor(True), False)
        apply_ema(paired_tensors(chosen, student, buffers), keep, torch.tensor(True), True)
        for old, new in zip(looped.parameters(), student.parameters(), strict=True):
            old.data.copy_(torch.lerp(old.data, new.data, 1 - keep))
    assert_same_state(everything(asked), everything(chosen))
    loop = {name: each.detach() for name, each in looped.named_parameters()}
    assert_same_state({name: each.detach() for name, each in asked.named_parameters()}, loop)


@pytest.mark.parametrize('on_device', [False, True])
@pytest.mark.parametrize('buffers', BUFFER_POLICIES)
def test_refused_update_leaves_every_bit(buffers: str, on_device: bool):
    student, teacher = AwkwardNet(2), AwkwardNet(1)
    student.conv.weight.data[0, 0, 0, 0] = float('nan')
    student.norm.running_var[0] = float('inf')
    before = everything(teacher)
    apply_ema(paired_tensors(teacher, student, buffers), 0.5, torch.tensor(False), on_device)
    assert_same_state(everything(teacher), before)


@pytest.mark.parametrize('buffers', BUFFER_POLICIES)
def test_infinite_constants_that_both_share_are_no_reason_to_refuse(buffers: str):
    student, teacher = AwkwardNet(2), AwkwardNet(1)
    mask = teacher.mask.clone()
    assert ema_update(teacher, student, 0.5, buffers)
    assert torch.equal(teacher.mask, mask)
    student.mask[1, 0] = float('-inf')
    assert bool(ema_update(teacher, student, 0.5, buffers)) == (buffers == 'skip')


@pytest.mark.parametrize(
    'name', ['conv.weight', 'scalar', 'wide', 'complex', 'frozen', 'norm.running_var', 'hidden']
)
def test_every_kind_of_tensor_is_looked_at(name: str):
    student, teacher = AwkwardNet(2), AwkwardNet(1)
    owner, _, leaf = name.rpartition('.')
    getattr(student.get_submodule(owner), leaf).data.view(-1)[0] = float('nan')
    before = everything(teacher)
    assert not ema_update(teacher, student, 0.5, 'ema')
    assert_same_state(everything(teacher), before)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_largest_numbers_are_finite(dtype: torch.dtype):
    student = nn.Linear(300, 300).to(dtype)
    student.weight.data.fill_(torch.finfo(dtype).max)
    assert all_finite(paired_tensors(copy.deepcopy(student), student))
    student.weight.data[3, 3] = float('inf')
    assert not all_finite(paired_tensors(copy.deepcopy(student), student))


def test_tied_parameters_move_once_and_stay_tied():
    student = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    student[1].weight = student[0].weight
    teacher = copy.deepcopy(student)
    old = teacher[0].weight.detach().clone()
    student[0].weight.data += 1
    ema_update(teacher, student, 0.5)
    torch.testing.assert_close(teacher[1].weight.detach(), old + 0.5)
    assert teacher[0].weight is teacher[1].weight


def test_teacher_of_less_precision_follows():
    student, teacher = nn.Linear(4, 4), nn.Linear(4, 4).half()
    ema_update(teacher, student, 0.0)
    assert torch.equal(teacher.weight, student.weight.half())
