"""Modes of networks for a block: everything is as before afterwards."""

import copy

import pytest
import torch
from torch import nn

from mmdistill.core.modes import batch_norms, batch_statistics, evaluating


def network() -> nn.Module:
    """Batch norms in different modes, a dropout, and statistics that are not those of a batch."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5), nn.BatchNorm1d(3)).train()
    net[2].eval()
    net[2].running_mean.fill_(2.0)
    return net


def modes_of(net: nn.Module) -> list[bool]:
    """Of all parts."""
    return [each.training for each in net.modules()]


def test_every_part_has_its_own_mode_again_also_after_an_error():
    net = network()
    before = modes_of(net)
    with evaluating(net):
        assert not any(modes_of(net))
    assert modes_of(net) == before
    with pytest.raises(KeyError), evaluating(net):
        raise KeyError
    assert modes_of(net) == before == [True, True, True, False]


def test_all_batch_norms_are_found_and_nothing_else():
    net = network()
    assert batch_norms(net) == [net[0], net[2]]


def test_the_batch_decides_and_running_statistics_stay():
    net, numbers = network().eval(), torch.randn(64, 3) * 3 + 5
    before = copy.deepcopy(net.state_dict())
    with torch.no_grad(), batch_statistics(batch_norms(net)):
        found = net(numbers)
    assert found.mean(0).abs().max() < 1e-5
    torch.testing.assert_close(found.var(0, unbiased=False), torch.ones(3), rtol=1e-4, atol=0)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(modes_of(net)) and all(each.track_running_stats for each in batch_norms(net))
    with torch.no_grad():
        assert net(numbers).mean(0).min() > 1  # running statistics again
