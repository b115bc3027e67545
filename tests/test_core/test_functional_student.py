"""A network at other parameters is a network that was loaded with them, and stays what it is."""

import copy

import pytest
import torch
from torch import Tensor, nn

from mmdistill.core.functional_student import NetworkAt
from mmdistill.testing import assert_same_state


def network() -> nn.Module:
    """Convolutions with batch norm; the first layer is frozen."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(24, 2)
    )
    net[0].requires_grad_(False)
    return net.train()


def images() -> Tensor:
    return torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def call(net: nn.Module, batch: Tensor) -> Tensor:
    """A function that is not the network's own forward."""
    return net(batch).square().mean() + net[1].weight.sum()


def moved(net: nn.Module) -> list[Tensor]:
    """Other values for the trained parameters."""
    return [each.detach() * 1.5 + 0.1 for each in net.parameters() if each.requires_grad]


def loaded(net: nn.Module, values: list[Tensor]) -> nn.Module:
    """A copy that holds the values."""
    twin = copy.deepcopy(net)
    with torch.no_grad():
        for each, value in zip((p for p in twin.parameters() if p.requires_grad), values,
                               strict=True):  # fmt: skip
            each.copy_(value)
    return twin


@pytest.mark.parametrize('keep', [False, True])
def test_values_and_gradients_are_those_of_a_loaded_copy(keep):
    net = network()
    values = moved(net)
    twin, at = loaded(net, values), NetworkAt(net, values, keep_buffers=keep)
    loss, expected = at(call, images()), call(twin, images())
    assert torch.equal(loss, expected)
    ours = torch.autograd.grad(loss, at.leaves)
    expected.backward()
    theirs = [each.grad for each in twin.parameters() if each.requires_grad]
    assert len(ours) == len(theirs) == 6
    assert all(torch.equal(one, two) for one, two in zip(ours, theirs, strict=True))
    assert all(each.grad is None for each in net.parameters())


@pytest.mark.parametrize('at_home', [False, True])
@pytest.mark.parametrize('keep', [False, True])
def test_only_running_statistics_move_and_only_where_asked(keep, at_home):
    net = network()
    before, where = copy.deepcopy(net.state_dict()), [each.data_ptr() for each in net.parameters()]
    twin = net if at_home else loaded(net, moved(net))
    expected = copy.deepcopy(twin)
    call(expected, images())
    NetworkAt(net, None if at_home else moved(net), keep_buffers=keep)(call, images())
    assert [each.data_ptr() for each in net.parameters()] == where
    for name, value in net.state_dict().items():
        statistic = name.startswith('2.') and name.split('.')[1] not in ('weight', 'bias')
        changed = statistic and not keep
        wanted = expected.state_dict()[name] if changed else before[name]
        assert torch.equal(value, wanted), name
    assert int(net[2].num_batches_tracked) == (0 if keep else 1)


def test_copies_of_statistics_move_from_call_to_call():
    """Two looks through one object are two steps of its copies, as they are of a network."""
    net = network()
    twin, at = copy.deepcopy(net), NetworkAt(net, keep_buffers=True)
    for _ in range(2):
        at(call, images())
        call(twin, images())
    found = at(lambda inside: dict(inside.named_buffers()))
    assert_same_state({k: v.clone() for k, v in found.items()}, dict(twin.named_buffers()))


def test_at_home_the_leaves_are_the_trained_parameters():
    net = network()
    at = NetworkAt(net)
    assert at.home and not NetworkAt(net, moved(net)).home
    trained = [each for each in net.parameters() if each.requires_grad]
    assert all(one is two for one, two in zip(at.leaves, trained, strict=True))
    seen = []
    at(seen.append)
    assert seen == [net]


def test_the_given_tensors_are_leaves_of_their_own():
    net = network()
    values = moved(net)
    at = NetworkAt(net, values)
    at(call, images()).backward()
    assert all(each.grad is None and not each.requires_grad for each in values)
    assert all(each.grad is not None for each in at.leaves)


def test_an_error_inside_leaves_nothing_behind():
    net = network()
    before, own = copy.deepcopy(net.state_dict()), list(net.parameters())
    bias = moved(net)[1]

    def fail(inside: nn.Module) -> None:
        assert torch.equal(inside[1].bias, bias)
        inside(images())  # moves copies of the statistics
        raise ArithmeticError('inside')

    with pytest.raises(ArithmeticError, match='inside'):
        NetworkAt(net, moved(net), keep_buffers=True)(fail)
    assert_same_state(net.state_dict(), before)
    assert all(one is two for one, two in zip(net.parameters(), own, strict=True))


def test_a_wrong_number_of_parameters_is_an_error():
    net = network()
    with pytest.raises(ValueError, match='zip'):
        NetworkAt(net, moved(net)[1:])


def test_casts_see_the_given_parameters():
    """Half precision copies of the network's own were made just before, in the same region."""
    net = network()
    values = moved(net)
    with torch.autocast('cpu', torch.bfloat16):
        own = NetworkAt(net)(call, images())
        away = NetworkAt(net, values)(call, images())
        again = NetworkAt(net)(call, images())
    with torch.autocast('cpu', torch.bfloat16):
        expected = call(loaded(net, values), images())
    assert torch.equal(away, expected) and torch.equal(own, again)
    assert not torch.equal(own, away)


def test_a_layer_with_two_names_and_shared_matrices_stay_what_they_are():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.third = nn.Linear(3, 3), nn.Linear(3, 3)
            self.second = self.first
            self.third.weight = self.first.weight

        def forward(self, batch: Tensor) -> Tensor:
            return self.third(self.second(self.first(batch).tanh()).tanh())

    torch.manual_seed(0)
    net, batch = Shared(), torch.randn(4, 3)
    before = copy.deepcopy(net)
    values = moved(net)
    at = NetworkAt(net, values, keep_buffers=True)
    found = torch.autograd.grad(at(lambda n: n(batch).square().sum()), at.leaves)
    twin = loaded(net, values)
    assert twin.second is twin.first and twin.third.weight is twin.first.weight
    twin(batch).square().sum().backward()
    for mine, theirs in zip(found, twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs.grad)
    assert_same_state(net.state_dict(), before.state_dict())
    assert net.second is net.first and all(p.grad is None for p in net.parameters())
