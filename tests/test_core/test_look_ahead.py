"""Isolated and leaky steps go the same way and come back; only the leaky ones leave traces."""

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from mmdistill.core.look_ahead import IsolatedSteps, LeakySteps
from mmdistill.core.virtual_step import VirtualOptimizer
from mmdistill.testing import assert_same_state

KINDS = [
    partial(torch.optim.AdamW, lr=0.1, weight_decay=0.1),
    partial(torch.optim.SGD, lr=0.1, momentum=0.9),
]
WAYS = ['isolated', 'leaky']
YES = torch.tensor(True)


def trained(kind: Callable) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A network after two real steps."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = kind(net.parameters())
    for seed in (0, 1):
        for each, grad in zip(net.parameters(), grads_of(net, seed), strict=True):
            each.grad = grad
        optimizer.step()
        optimizer.zero_grad()
    return net, optimizer


def grads_of(net: nn.Module, seed: int) -> list[Tensor]:
    """Some gradients."""
    numbers = torch.Generator().manual_seed(seed)
    return [torch.randn(each.shape, generator=numbers) for each in net.parameters()]


def steps_of(way: str, net: nn.Module, optimizer: torch.optim.Optimizer):
    """A series of either kind."""
    params = list(net.parameters())
    if way == 'leaky':
        return LeakySteps(optimizer, params)
    return IsolatedSteps(VirtualOptimizer(optimizer, params))


def values(chunks) -> list[Tensor]:
    """Copies of the tensors of chunks by their indices."""
    found = {i: each.clone() for indices, part in chunks
             for i, each in zip(indices, part, strict=True)}  # fmt: skip
    return [found[index] for index in range(len(found))]


def everything(net: nn.Module, optimizer: torch.optim.Optimizer) -> tuple:
    """Parameters, gradients and the optimizer."""
    grads = [each.grad for each in net.parameters()]
    return copy.deepcopy((net.state_dict(), grads, optimizer.state_dict()))


@pytest.mark.parametrize('kind', KINDS, ids=['AdamW', 'SGD'])
@pytest.mark.parametrize('count', [1, 3])
def test_both_ways_are_the_optimizers_own_steps(kind, count):
    net, optimizer = trained(kind)
    twin = copy.deepcopy(net)
    other = kind(twin.parameters())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    walks = {}
    for way in WAYS:  # the isolated ones first: they leave nothing
        steps, found = steps_of(way, net, optimizer), []
        for seed in range(count):
            more = seed < count - 1
            found.append(values(steps.step(grads_of(net, 7 + seed), YES, more)))
            assert steps.moved is (more or seed > 0 or way == 'leaky')
        walks[way] = found
    for seed in range(count):
        for each, grad in zip(twin.parameters(), grads_of(net, 7 + seed), strict=True):
            each.grad = grad
        other.step()
        expected = [each.detach().clone() for each in twin.parameters()]
        assert_same_state(walks['isolated'][seed], expected)
        assert_same_state(walks['leaky'][seed], expected)


@pytest.mark.parametrize('kind', KINDS, ids=['AdamW', 'SGD'])
@pytest.mark.parametrize('count', [1, 2])
def test_isolated_steps_touch_nothing(kind, count):
    net, optimizer = trained(kind)
    before, steps = everything(net, optimizer), steps_of('isolated', net, optimizer)
    for seed in range(count):
        list(steps.step(grads_of(net, seed), YES, more=seed < count - 1))
    assert_same_state(everything(net, optimizer), before)
    steps.home()
    assert steps.params is None and not steps.moved
    assert_same_state(everything(net, optimizer), before)


@pytest.mark.parametrize('kind', KINDS, ids=['AdamW', 'SGD'])
def test_leaky_steps_come_back_and_are_remembered(kind):
    net, optimizer = trained(kind)
    model, grads, before = everything(net, optimizer)
    where = [each.data_ptr() for each in net.parameters()]
    steps = steps_of('leaky', net, optimizer)
    steps.step(grads_of(net, 5), YES, more=False)
    assert not torch.equal(net[0].weight, model['0.weight'])
    steps.home()
    assert not steps.moved and steps.params is None
    now, none, after = everything(net, optimizer)
    assert_same_state((now, none), (model, grads))
    assert [each.data_ptr() for each in net.parameters()] == where
    name = 'exp_avg' if 'AdamW' in str(kind) else 'momentum_buffer'
    assert not torch.equal(after['state'][0][name], before['state'][0][name])


@pytest.mark.parametrize('way', WAYS)
def test_the_next_series_begins_at_home(way):
    net, optimizer = trained(partial(torch.optim.SGD, lr=0.1))  # no memory that could leak
    steps, walks = steps_of(way, net, optimizer), []
    for _ in range(2):
        walks.append([values(steps.step(grads_of(net, seed), YES, seed == 0)) for seed in (0, 1)])
        steps.home()
    assert_same_state(*walks)
    assert not torch.equal(walks[0][0][0], walks[0][1][0])


@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('more', [False, True])
def test_a_step_that_is_not_finite_stays(way, more):
    net, optimizer = trained(KINDS[0])
    before, steps = everything(net, optimizer), steps_of(way, net, optimizer)
    bad = [each * float('inf') for each in grads_of(net, 3)]
    found = values(steps.step(bad, torch.tensor(False), more))
    assert_same_state(found, [each.detach() for each in net.parameters()])
    steps.home()
    assert_same_state(everything(net, optimizer), before)


def test_a_single_isolated_step_is_a_stream_and_a_series_is_where_it_says():
    net, optimizer = trained(KINDS[0])
    steps = steps_of('isolated', net, optimizer)
    chunks = steps.step(grads_of(net, 1), YES, more=False)
    assert not isinstance(chunks, list) and steps.params is None
    list(chunks)
    first = values(steps.step(grads_of(net, 1), YES, more=True))
    assert_same_state(list(steps.params), first)


def test_casts_see_where_leaky_steps_are():
    """Autocast keeps copies by tensor: they are forgotten when values change in place."""
    net, optimizer = trained(KINDS[1])
    inputs, steps = torch.ones(1, 3), steps_of('leaky', net, optimizer)
    with torch.autocast('cpu', torch.bfloat16):
        start = net(inputs)
        steps.step(grads_of(net, 2), YES, more=False)
        away = net(inputs)
        expected = copy.deepcopy(net)(inputs)
        steps.home()
        back = net(inputs)
    assert torch.equal(away, expected) and torch.equal(back, start)
    assert not torch.equal(away, start)
