"""A flat network is the same network in one piece of memory."""

import copy

import pytest
import torch
from torch import nn

from mmdistill.core.flat import FlatParameters


def network() -> nn.Module:
    """Two types of parameters, one of them empty of elements, and a buffer."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(2, 3).double())
    return net.requires_grad_(False).eval()


def test_values_stay_and_lie_in_one_tensor_per_type():
    net = network()
    before = copy.deepcopy(net.state_dict())
    flat = FlatParameters(net)
    params = flat.build()
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    assert [each.dtype for each in flat.flats] == [torch.float32, torch.float64]
    assert sum(each.numel() for each in flat.flats) == sum(p.numel() for p in params)
    for each in flat.flats:
        each.zero_()
    assert all(not p.any() for p in params)


def test_views_survive_loading():
    net = network()
    flat = FlatParameters(net)
    flat.build()
    tensors = list(flat.flats)
    net.load_state_dict({key: value + 1 for key, value in network().state_dict().items()})
    flat.build()
    assert all(a is b for a, b in zip(tensors, flat.flats, strict=True))
    assert torch.equal(flat.flats[0][:108].view(4, 3, 3, 3), network()[0].weight + 1)


def test_a_new_type_and_a_copy_are_noticed():
    net = network()
    flat = FlatParameters(net)
    flat.build()
    net.double()
    flat.build()
    assert [each.dtype for each in flat.flats] == [torch.float64]
    other = FlatParameters(copy.deepcopy(net))
    other.build()
    other.flats[0].zero_()
    assert net[0].weight.abs().sum() > 0


def test_restoring_is_exact():
    net = network()
    flat = FlatParameters(net)
    flat.save()
    before = copy.deepcopy(net.state_dict())
    for each in flat.build():
        each.mul_(1.7).add_(0.3)
    assert not torch.equal(net[0].weight, before['0.weight'])
    flat.restore()
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_last_save_counts_and_a_move_forgets_it():
    net = network()
    flat = FlatParameters(net)
    with pytest.raises(RuntimeError, match='nothing was saved'):
        flat.restore()
    flat.save()
    for each in flat.build():
        each.add_(1)
    flat.save()
    before = copy.deepcopy(net.state_dict())
    for each in flat.build():
        each.add_(1)
    flat.restore()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    net.double()
    with pytest.raises(RuntimeError, match='nothing was saved'):
        flat.restore()
