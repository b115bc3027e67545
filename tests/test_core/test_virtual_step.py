"""Virtual steps are the optimizer's own steps, and nothing is touched by them."""

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from mmdistill.core import virtual_step
from mmdistill.core.errors import UserError
from mmdistill.core.gradients import gradients
from mmdistill.core.virtual_step import VirtualOptimizer
from mmdistill.testing import peak_bytes

ADAMW = [
    dict(weight_decay=decay, foreach=foreach) for decay in (0.0, 0.03) for foreach in (True, False)
]
SGD = [
    dict(momentum=0.0),
    dict(momentum=0.0, weight_decay=0.01),
    dict(momentum=0.9),
    dict(momentum=0.9, weight_decay=0.01, foreach=True),
    dict(momentum=0.9, nesterov=True, foreach=False),
    dict(momentum=0.8, dampening=0.3),
    dict(momentum=0.9, maximize=True),
]
KINDS = [
    *(partial(torch.optim.AdamW, **each) for each in ADAMW),
    partial(torch.optim.AdamW, betas=(0.7, 0.95), maximize=True),
    partial(torch.optim.Adam, weight_decay=0.02),
    *(partial(torch.optim.SGD, **each) for each in SGD),
]
KINDS_IDS = [f'{each.func.__name__}-{each.keywords}' for each in KINDS]


def network() -> nn.Module:
    """Odd shapes, a batch norm and a layer that never gets a gradient."""
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Conv2d(5, 7, 1), nn.Linear(2, 2))
    return net.train()


def optimizer_of(net: nn.Module, kind: Callable) -> torch.optim.Optimizer:
    """Two groups with different learning rates."""
    params = list(net.parameters())
    return kind([dict(params=params[:3], lr=0.02), dict(params=params[3:], lr=0.2)], lr=0.1)


def gradients_of(net: nn.Module, seed: int) -> list[Tensor | None]:
    """Gradients of a made-up loss; the last layer has none."""
    images = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    maps = net[2](torch.nn.functional.conv2d(images, net[0].weight, net[0].bias))
    loss = (maps * net[1].weight.mean() - net[1].bias.sum()).square().mean()
    return gradients(loss, list(net.parameters()))


def real_step(net: nn.Module, optimizer: torch.optim.Optimizer, grads: list) -> None:
    """A step of torch."""
    for param, grad in zip(net.parameters(), grads, strict=True):
        param.grad = None if grad is None else grad.clone()
    optimizer.step()
    optimizer.zero_grad()


def trained(kind: Callable, steps: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A network and its optimizer after some real steps."""
    net = network()
    optimizer = optimizer_of(net, kind)
    for seed in range(steps):
        real_step(net, optimizer, gradients_of(net, seed))
    return net, optimizer


def clone(net: nn.Module, optimizer: torch.optim.Optimizer, kind: Callable) -> tuple:
    """Both again, with state of their own."""
    twin = copy.deepcopy(net)
    other = optimizer_of(twin, kind)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    return twin, other


def everything(net: nn.Module, optimizer: torch.optim.Optimizer) -> list:
    """Parameters, buffers, gradients and the state of the optimizer."""
    state = copy.deepcopy(optimizer.state_dict()['state'])
    flat = [(i, name, value) for i, part in state.items() for name, value in part.items()]
    model = [(name, value.clone()) for name, value in net.state_dict().items()]
    return [*model, *flat, *(p.grad for p in net.parameters())]


def same(one: list, two: list) -> bool:
    """Equal bit for bit."""
    if len(one) != len(two):
        return False
    for a, b in zip(one, two, strict=True):
        if isinstance(a, tuple):
            if not same(list(a), list(b)):
                return False
        elif isinstance(a, Tensor):
            if not torch.equal(a, b):
                return False
        elif a != b:
            return False
    return True


@pytest.mark.parametrize('kind', KINDS, ids=KINDS_IDS)
@pytest.mark.parametrize('done', [0, 1, 4])
def test_one_virtual_step_is_the_real_step_bit_for_bit(kind, done):
    net, optimizer = trained(kind, done)
    twin, other = clone(net, optimizer, kind)
    grads = gradients_of(net, 99)
    before = everything(net, optimizer)
    ahead = dict(_pairs(VirtualOptimizer(optimizer).stream(grads)))
    assert same(before, everything(net, optimizer))
    real_step(twin, other, grads)
    for index, param in enumerate(twin.parameters()):
        assert torch.equal(ahead[index], param)


@pytest.mark.parametrize('kind', KINDS, ids=KINDS_IDS)
@pytest.mark.parametrize('done', [0, 3])
def test_a_series_is_that_of_real_steps_bit_for_bit(kind, done):
    net, optimizer = trained(kind, done)
    twin, other = clone(net, optimizer, kind)
    before, virtual = everything(net, optimizer), VirtualOptimizer(optimizer)
    for repeat in range(2):  # a second series starts from the same place
        virtual.restart()
        walker, walking = clone(twin, other, kind)
        for seed in range(4):
            grads = gradients_of(walker, 50 + seed)
            ahead = virtual.advance(grads)
            real_step(walker, walking, grads)
            for value, param in zip(ahead, walker.parameters(), strict=True):
                assert torch.equal(value, param), (repeat, seed)
    assert same(before, everything(net, optimizer))


@pytest.mark.parametrize('chunk', [1, 40, 10**9])
def test_chunks_do_not_change_the_result(chunk, monkeypatch):
    net, optimizer = trained(KINDS[2], 2)
    grads = gradients_of(net, 7)
    expected = dict(_pairs(VirtualOptimizer(optimizer).stream(grads)))
    monkeypatch.setattr(virtual_step, 'CHUNK', chunk)
    found = list(VirtualOptimizer(optimizer).stream(grads))
    if chunk == 1:
        assert all(len(indices) == 1 for indices, _ in found)
    assert sorted(i for indices, _ in found for i in indices) == list(range(len(grads)))
    assert all(torch.equal(expected[i], value) for i, value in _pairs(found))


def test_parameters_without_gradient_stay():
    net, optimizer = trained(KINDS[0], 2)
    grads = gradients_of(net, 1)
    ahead = dict(_pairs(VirtualOptimizer(optimizer).stream(grads)))
    assert grads[-1] is None
    assert torch.equal(ahead[len(grads) - 1], net[3].bias)
    assert not torch.equal(ahead[0], net[0].weight)


def test_asking_whether_gradients_are_finite_changes_no_bit_of_a_series():
    net, optimizer = trained(KINDS[0], 2)
    asked, plain = (VirtualOptimizer(optimizer) for _ in range(2))
    for seed in range(3):
        grads = gradients_of(net, seed)
        pairs = zip(asked.advance(grads, torch.tensor(True)), plain.advance(grads), strict=True)
        assert all(torch.equal(one, two) for one, two in pairs)


@pytest.mark.parametrize('on_device', [False, True])
@pytest.mark.parametrize('kind', [KINDS[0], KINDS[-2]], ids=['AdamW', 'SGD'])
def test_a_step_that_is_not_finite_stays_where_it_is(kind, on_device, monkeypatch):
    if on_device:  # as on a GPU, which is not asked
        monkeypatch.setattr(virtual_step, '_known', lambda finite: finite is None or None)
    net, optimizer = trained(kind, 2)
    grads = gradients_of(net, 1)
    bad = [grads[0] * float('nan'), *grads[1:]]
    virtual = VirtualOptimizer(optimizer)
    for value, param in zip(virtual.advance(bad, torch.tensor(False)), net.parameters()):  # noqa: B905
        assert torch.equal(value, param)
    for index, value in _pairs(VirtualOptimizer(optimizer).stream(bad, torch.tensor(False))):
        assert torch.equal(value, virtual.params[index])
    # and the series goes on as if it had not been there
    after = virtual.advance(grads, torch.tensor(True))
    fresh = VirtualOptimizer(optimizer).advance(grads)
    for one, two in zip(after, fresh, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-7)


def test_a_fused_optimizer_is_followed_closely():
    kind = partial(torch.optim.AdamW, fused=True, weight_decay=0.02)
    net, optimizer = trained(kind, 3)
    twin, other = clone(net, optimizer, kind)
    grads = gradients_of(net, 5)
    ahead = dict(_pairs(VirtualOptimizer(optimizer).stream(grads)))
    real_step(twin, other, grads)
    for index, param in enumerate(twin.parameters()):
        torch.testing.assert_close(ahead[index], param, rtol=1e-6, atol=1e-7)


def test_step_counters_on_the_device_give_the_same():
    net, optimizer = trained(KINDS[0], 3)
    grads = gradients_of(net, 5)
    expected = dict(_pairs(VirtualOptimizer(optimizer).stream(grads)))
    virtual = VirtualOptimizer(optimizer)
    point_of = virtual._here

    def on_device(indices):
        point = point_of(indices)
        point.steps[:] = [torch.tensor(step).double() for step in point.steps]
        return point

    virtual._here = on_device
    for index, value in _pairs(virtual.stream(grads)):
        torch.testing.assert_close(value, expected[index], rtol=1e-6, atol=1e-7)


def test_some_parameters_in_another_order():
    net, optimizer = trained(KINDS[0], 2)
    grads, params = gradients_of(net, 5), list(net.parameters())
    expected = dict(_pairs(VirtualOptimizer(optimizer).stream(grads)))
    chosen = [4, 0, 2]
    virtual = VirtualOptimizer(optimizer, [params[i] for i in chosen])
    for index, value in _pairs(virtual.stream([grads[i] for i in chosen])):
        assert torch.equal(value, expected[chosen[index]])


def test_a_learning_rate_that_changes_is_read_anew():
    net, optimizer = trained(KINDS[0], 1)
    virtual, grads = VirtualOptimizer(optimizer), gradients_of(net, 5)
    for group in optimizer.param_groups:
        group['lr'] = 0.0
    for index, value in _pairs(virtual.stream(grads)):
        assert torch.equal(value, list(net.parameters())[index])


@pytest.mark.parametrize(
    ('kind', 'named'),
    [
        (partial(torch.optim.AdamW, amsgrad=True), 'amsgrad'),
        (partial(torch.optim.AdamW, capturable=True), 'capturable'),
        (partial(torch.optim.RMSprop), 'RMSprop'),
        (partial(torch.optim.NAdam), 'NAdam'),
    ],
)
def test_what_is_not_built_is_refused_by_name(kind, named):
    net = network()
    with pytest.raises(UserError, match=named):
        VirtualOptimizer(optimizer_of(net, kind))


def test_a_learning_rate_in_a_tensor_is_refused():
    optimizer = torch.optim.AdamW(network().parameters(), lr=torch.tensor(0.1), foreach=False)
    with pytest.raises(UserError, match='lr='):
        VirtualOptimizer(optimizer)


def test_a_stranger_among_the_parameters_is_refused():
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(UserError, match='not in the optimizer'):
        VirtualOptimizer(optimizer, [nn.Parameter(torch.zeros(2))])


def test_a_wrong_number_of_gradients_is_refused():
    net, optimizer = trained(KINDS[0], 1)
    with pytest.raises(ValueError, match='1 gradients for 8 parameters'):
        list(VirtualOptimizer(optimizer).stream([None]))


def _pairs(stream) -> list[tuple[int, Tensor]]:
    """Index and tensor of everything in a stream."""
    return [pair for indices, values in stream for pair in zip(indices, values, strict=True)]


@pytest.mark.parametrize('decay', [0.0, 0.1])
def test_a_stream_needs_memory_for_three_copies_of_a_chunk(decay):
    """Two moments, one of which becomes the divisor, and the new parameters."""
    params = [nn.Parameter(torch.randn(1000)) for _ in range(50)]
    optimizer = torch.optim.AdamW(params, weight_decay=decay)
    grads = [torch.randn(1000) for _ in params]
    real_step(nn.ParameterList(params), optimizer, grads)
    virtual = VirtualOptimizer(optimizer)

    def consume():
        for _ in virtual.stream(grads):
            pass

    assert peak_bytes(consume, torch.device('cpu')) <= 3 * 50 * 4000
