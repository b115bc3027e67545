"""A network as a function of one vector: its own answers, at values that it does not have."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from mmdistill.core.errors import UserError
from mmdistill.testing import assert_same_state
from mmkd.experts.flat_network import FlatNetwork

CLOSE = dict(rtol=1e-12, atol=1e-12)


class Net(nn.Module):
    """Modules one after the other."""

    def __init__(self, *modules):
        super().__init__()
        self.body = nn.Sequential(*modules)

    def forward(self, pixel_values):
        return SimpleNamespace(logits=self.body(pixel_values))


class Tied(nn.Module):
    """One module with two names, and one parameter in two modules."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.again = self.first
        self.norm = nn.BatchNorm1d(4)
        self.same_norm = self.norm
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, pixel_values):
        hidden = self.norm(self.first(pixel_values).relu())
        hidden = self.same_norm(self.again(hidden).relu())
        return SimpleNamespace(logits=self.second(hidden))


def convolutional(norm):
    """A network of images with one channel, in double precision."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4) if norm == 'batch' else nn.GroupNorm(2, 4)
    parts = [nn.Conv2d(1, 4, 3), norm, nn.SiLU(), nn.Flatten(), nn.Linear(36, 3)]
    return Net(*parts).double()


def random(*shape):
    """Numbers that no network starts with."""
    draw = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=draw, dtype=torch.float64)


def moved(network, theta, buffers=None):
    """A copy of a network with other values, which torch and this test put there."""
    network = copy.deepcopy(network)
    vector_to_parameters(theta, network.parameters())
    if buffers is not None:
        start = 0
        for each in network.buffers():
            if each.is_floating_point():
                each.copy_(buffers[start : start + each.numel()].view(each.shape))
                start += each.numel()
        assert start == len(buffers)
    return network


def statistics(network):
    """All running statistics as a vector."""
    return torch.cat([each.reshape(-1) for each in network.buffers() if each.is_floating_point()])


@pytest.mark.parametrize('make', [lambda: convolutional('batch'), lambda: Tied().double()])
def test_order_is_that_of_the_parameters(make):
    network = make()
    flat = FlatNetwork(network)
    assert torch.equal(flat.theta(), parameters_to_vector(network.parameters()))
    assert flat.size == sum(each.numel() for each in network.parameters())
    assert flat.names == [name for name, _ in network.named_parameters()]
    assert flat.shapes == [each.shape for each in network.parameters()]
    named = flat.named(flat.theta())
    assert_same_state(named, {k: v.detach() for k, v in network.named_parameters()})


@pytest.mark.parametrize('make', [lambda: convolutional('batch'), lambda: Net(nn.Linear(3, 2))])
def test_values_are_copies_and_names_are_views(make):
    network = make()
    flat, before = FlatNetwork(network), copy.deepcopy(network)
    theta = flat.theta()
    theta.fill_(7), flat.buffers().fill_(7)
    assert_same_state(network, before)
    assert not theta.requires_grad
    flat.named(theta)[flat.names[-1]].zero_()
    last = flat.shapes[-1].numel()
    assert not theta[-last:].any() and (theta[:-last] == 7).all()


def test_a_network_of_one_parameter():
    network = Net(nn.Linear(3, 2, bias=False))
    flat = FlatNetwork(network)
    flat.theta().fill_(7)
    assert not (flat.theta() == 7).any()
    assert flat.logits(torch.ones(6), torch.ones(1, 3)).tolist() == [[3.0, 3.0]]


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('norm', ['group', 'batch'])
def test_logits_are_those_of_the_network(norm, training):
    network = convolutional(norm)
    flat, images = FlatNetwork(network), random(5, 1, 5, 5)
    before = copy.deepcopy(network.state_dict())
    for theta in (flat.theta(), random(flat.size)):
        wanted = moved(network, theta).train(training)(images).logits
        torch.testing.assert_close(flat.logits(theta, images, training=training), wanted, **CLOSE)
    assert_same_state(network.state_dict(), before)
    assert network.training == training


def test_gradients_are_those_of_the_network():
    network = convolutional('batch')
    flat, images = FlatNetwork(network), random(5, 1, 5, 5)
    theta = random(flat.size).requires_grad_()
    own = moved(network, theta.detach()).train()
    weights = random(5, 3)
    own_loss = (own(images).logits * weights).sum()
    wanted = parameters_to_vector(torch.autograd.grad(own_loss, list(own.parameters())))
    (found,) = torch.autograd.grad((flat.logits(theta, images) * weights).sum(), theta)
    torch.testing.assert_close(found, wanted, **CLOSE)
    assert all(each.grad is None for each in network.parameters())


def test_running_statistics_that_are_given_move_in_training():
    network = convolutional('batch')
    flat, theta, images = FlatNetwork(network), random(16 * 3 + 36 * 3 + 3), random(3, 5, 1, 5, 5)
    assert flat.buffer_size == 8 and torch.equal(flat.buffers(), statistics(network))
    assert flat.buffer_names == ['body.1.running_mean', 'body.1.running_var']
    before = copy.deepcopy(network.state_dict())
    buffers = random(8).abs()
    own = moved(network, theta, buffers).train()
    for each in images:
        torch.testing.assert_close(flat.logits(theta, each, buffers), own(each).logits, **CLOSE)
        torch.testing.assert_close(buffers, statistics(own), **CLOSE)
    # neither those of the network nor its counter of batches
    assert_same_state(network.state_dict(), before)
    assert not torch.allclose(buffers, flat.buffers())


def test_running_statistics_that_are_given_are_used_in_evaluation_and_stay():
    network = convolutional('batch')
    flat, images = FlatNetwork(network), random(5, 1, 5, 5)
    theta, buffers = random(flat.size), random(8).abs()
    kept, before = buffers.clone(), copy.deepcopy(network.state_dict())
    found = flat.logits(theta, images, buffers, training=False)
    wanted = moved(network, theta, buffers).eval()(images).logits
    torch.testing.assert_close(found, wanted, **CLOSE)
    assert torch.equal(buffers, kept)
    assert (found - flat.logits(theta, images, training=False)).abs().max() > 0.01
    assert_same_state(network.state_dict(), before)


@pytest.mark.parametrize('training', [True, False])
def test_shared_parameters_and_modules_are_one(training):
    torch.manual_seed(0)
    network = Tied().double()
    flat, images = FlatNetwork(network), random(6, 4)
    assert flat.size == 16 + 4 + 4 + 4 + 4 and flat.buffer_size == 8
    theta, buffers, before = random(flat.size), random(8).abs(), copy.deepcopy(network)
    own = moved(network, theta, buffers).train(training)
    found = flat.logits(theta, images, buffers, training)
    torch.testing.assert_close(found, own(images).logits, **CLOSE)
    torch.testing.assert_close(buffers, statistics(own), **CLOSE)
    # nothing is left behind under either name
    assert_same_state(network, before)
    for module in (network.first, network.again, network.second):
        assert all(isinstance(each, nn.Parameter) for each in module._parameters.values())
    assert network.first.weight is network.second.weight


def test_several_parameters_at_once():
    network = convolutional('group')
    flat, images = FlatNetwork(network), random(3, 5, 1, 5, 5)
    thetas = random(3, flat.size)
    found = torch.func.vmap(flat.logits)(thetas, images)
    for one, theta, some in zip(found, thetas, images, strict=True):
        torch.testing.assert_close(one, moved(network, theta)(some).logits, **CLOSE)


@pytest.mark.parametrize(
    ('module', 'mixes', 'size'),
    [
        (nn.GroupNorm(1, 4), False, 0),
        (nn.BatchNorm2d(4), True, 8),
        (nn.BatchNorm2d(4, track_running_stats=False), True, 0),
        (nn.SyncBatchNorm(4), True, 8),
    ],
)
def test_which_networks_mix_samples(module, mixes, size):
    flat = FlatNetwork(Net(nn.Conv2d(1, 4, 3), module))
    assert (flat.mixes_samples, flat.buffer_size, len(flat.buffers())) == (mixes, size, size)


def test_load_puts_values_into_the_network():
    network = convolutional('batch')
    flat, theta, buffers = FlatNetwork(network), random(159), random(8).abs()
    kept, tensors = flat.buffers(), [*network.parameters(), *network.buffers()]
    assert flat.load(theta) is network
    assert torch.equal(parameters_to_vector(network.parameters()), theta)
    assert torch.equal(statistics(network), kept)
    flat.load(theta + 1, buffers)
    assert torch.equal(flat.theta(), theta + 1) and torch.equal(statistics(network), buffers)
    # the tensors are the same as before, and have their own memory
    now = [*network.parameters(), *network.buffers()]
    assert all(a is b for a, b in zip(now, tensors, strict=True))
    theta.zero_(), buffers.zero_()
    assert flat.theta().abs().min() > 0 and flat.buffers().min() > 0
    assert all(each.requires_grad and each.is_leaf for each in network.parameters())


def test_load_into_shared_modules():
    network, other = Tied().double(), Tied().double()
    theta, buffers = random(32), random(8).abs()
    loaded = FlatNetwork(network).load(theta, buffers).eval()
    wanted = moved(other, theta, buffers).eval()
    images = random(6, 4)
    torch.testing.assert_close(loaded(images).logits, wanted(images).logits, **CLOSE)
    assert network.first.weight is network.second.weight


@pytest.mark.parametrize(
    ('network', 'message'),
    [
        (Net(nn.Flatten()), 'Net has no parameters to train'),
        (Net(nn.Linear(3, 2), nn.Linear(2, 2).requires_grad_(False)),
         r'parameter body\.1\.weight is not trained'),
    ],
)  # fmt: skip
def test_networks_that_cannot_be_trained_whole(network, message):
    with pytest.raises(UserError, match=message):
        FlatNetwork(network)


def test_statistics_follow_a_network_that_moves():
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2))
    flat = FlatNetwork(network)
    network.double()  # makes new buffers, as another device does
    network[1].running_mean.fill_(3.0)
    assert flat.buffers().dtype == torch.float64
    assert flat.buffers()[:2].tolist() == [3.0, 3.0]
