"""Steps on vectors: an optimizer written parameter by parameter, SGD, geometry, vmap."""

import copy
import itertools
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmkd.experts.flat_network import FlatNetwork
from mmkd.experts.gsam import gsam_direction, perturbation, step

CLOSE = dict(rtol=1e-12, atol=1e-12)
LR = 0.1


class Net(nn.Module):
    """A convolution, any normalisation and a linear layer."""

    def __init__(self, norm=None):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.GroupNorm(4, 4) if norm is None else norm
        self.head = nn.Linear(4, 3)

    def forward(self, pixel_values):
        hidden = F.silu(self.norm(self.conv(pixel_values)))
        return SimpleNamespace(logits=self.head(hidden.mean((2, 3))))


def make(norm=None, seed=0):
    """A network in double precision and the batches of five steps."""
    torch.manual_seed(seed)
    network = Net(norm).double()
    images = torch.randn(5, 6, 1, 5, 5, dtype=torch.float64)
    return network, list(zip(images, torch.randint(0, 3, (5, 6)), strict=True))


def run(network, batches, **options):
    """Parameters after one step per batch, the losses, and the passes that were made."""
    flat, velocity, values, passes = FlatNetwork(network), None, [], []
    theta = flat.theta()
    for images, labels in batches:

        def loss(at, first, images=images, labels=labels):
            passes.append(first)
            return F.cross_entropy(flat.logits(at, images), labels)

        theta, value, velocity = step(loss, theta, LR, velocity=velocity, **options)
        values.append(value)
    return theta, torch.stack(values), passes


def length(tensors):
    """Of all tensors together."""
    return math.sqrt(sum(float((each**2).sum()) for each in tensors))


def written_out(network, batches, rho, alpha, adaptive, momentum=0.0, weight_decay=0.0):
    """The same with a module's own parameters, one by one, and autograd."""
    network = copy.deepcopy(network)
    params, values = list(network.parameters()), []
    velocity = [torch.zeros_like(each) for each in params]
    for images, labels in batches:

        def gradients(images=images, labels=labels):
            value = F.cross_entropy(network(images).logits, labels)
            return torch.autograd.grad(value, params), value.detach()

        clean, value = gradients()
        values.append(value)
        scales = [each.detach().abs() if adaptive else torch.ones_like(each) for each in params]
        whole = length([s * g for s, g in zip(scales, clean, strict=True)]) + 1e-12
        before = [each.detach().clone() for each in params]
        with torch.no_grad():
            for each, scale, grad in zip(params, scales, clean, strict=True):
                each += rho * scale**2 * grad / whole
        perturbed, _ = gradients()
        ours, theirs = length(clean), length(perturbed)
        dot = sum(float((a * b).sum()) for a, b in zip(clean, perturbed, strict=True))
        along = dot / (ours * theirs + 1e-12) * ours / (theirs + 1e-12)
        with torch.no_grad():
            for n, each in enumerate(params):
                across = clean[n] - along * perturbed[n]
                moved = perturbed[n] - alpha * across + weight_decay * before[n]
                velocity[n] = momentum * velocity[n] + moved
                each.copy_(before[n] - LR * velocity[n])
    return FlatNetwork(network).theta(), torch.stack(values)


@pytest.mark.parametrize(
    ('alpha', 'adaptive', 'rest'),
    [
        (0.3, True, {}),
        (1.0, False, {}),
        (0.0, True, {}),
        (0.0, False, {}),
        (0.3, True, dict(momentum=0.9, weight_decay=0.01)),
    ],
)
def test_as_written_out_parameter_by_parameter(alpha, adaptive, rest):
    network, batches = make()
    options = dict(rho=0.2, alpha=alpha, adaptive=adaptive, **rest)
    found, values, passes = run(network, batches, **options)
    wanted, losses = written_out(network, batches, **options)
    torch.testing.assert_close(found, wanted, **CLOSE)
    torch.testing.assert_close(values, losses, **CLOSE)
    assert passes == [True, False] * 5
    assert (found - FlatNetwork(network).theta()).abs().max() > 0.01


def test_every_option_changes_the_parameters():
    network, batches = make()
    base = dict(rho=0.2, alpha=0.3, adaptive=True, momentum=0.5, weight_decay=0.1)
    others = [dict(rho=0.1), dict(alpha=0.0), dict(adaptive=False), dict(momentum=0.0)]
    others += [{}, dict(weight_decay=0.0), dict(rho=0.0)]
    ends = [run(network, batches, **{**base, **each})[0] for each in others]
    for one, other in itertools.combinations(ends, 2):
        assert (one - other).abs().max() > 1e-6


@pytest.mark.parametrize('momentum', [0.0, 0.9])
@pytest.mark.parametrize('weight_decay', [0.0, 0.05])
def test_without_radius_it_is_sgd_with_one_pass(momentum, weight_decay):
    network, batches = make()
    options = dict(momentum=momentum, weight_decay=weight_decay)
    found, _, passes = run(network, batches, rho=0.0, alpha=0.7, **options)
    own = copy.deepcopy(network)
    sgd = torch.optim.SGD(own.parameters(), lr=LR, **options)
    for images, labels in batches:
        sgd.zero_grad()
        F.cross_entropy(own(images).logits, labels).backward()
        sgd.step()
    torch.testing.assert_close(found, FlatNetwork(own).theta(), **CLOSE)
    assert passes == [True] * 5


def test_velocity_is_none_without_momentum_and_nothing_changes_in_place():
    theta, velocity = torch.tensor([1.0, -2.0]), torch.tensor([4.0, 4.0])

    def loss(at, first):
        return at.square().sum() / 2

    moved, value, none = step(loss, theta, 0.5)
    assert moved.tolist() == [0.5, -1.0] and float(value) == 2.5 and none is None
    moved, _, after = step(loss, theta, 0.5, momentum=0.5, weight_decay=1.0, velocity=velocity)
    assert after.tolist() == [4.0, -2.0] and moved.tolist() == [-1.0, -1.0]
    assert theta.tolist() == [1.0, -2.0] and velocity.tolist() == [4.0, 4.0]


def test_length_and_direction_of_the_perturbation():
    theta = torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64)
    grad = torch.tensor([3.0, 2.0, 9.0], dtype=torch.float64)
    # |theta| * grad is (3, 4, 0), of length 5
    found = perturbation(theta, grad, 0.5, adaptive=True)
    torch.testing.assert_close(found, torch.tensor([0.3, 0.8, 0.0], dtype=torch.float64), **CLOSE)
    plain = perturbation(theta, grad, 0.5, adaptive=False)
    torch.testing.assert_close(plain.norm(), torch.tensor(0.5).double(), **CLOSE)
    torch.testing.assert_close(plain / plain[0], grad / grad[0], **CLOSE)
    for adaptive in (True, False):
        assert torch.equal(perturbation(theta, 0 * grad, 0.5, adaptive), torch.zeros(3).double())


def test_what_is_taken_away_is_orthogonal_to_the_perturbed_gradient():
    clean, perturbed = torch.randn(2, 50, dtype=torch.float64)
    taken = perturbed - gsam_direction(clean, perturbed, 1.0)
    assert abs(float(taken @ perturbed)) < 1e-12
    # the clean gradient is what was taken and a multiple of the perturbed one
    rest = clean - taken
    share = float(rest @ perturbed / perturbed.square().sum())
    torch.testing.assert_close(rest, share * perturbed, **CLOSE)
    # the length of the perturbed gradient is of no matter, alpha is linear, 0 takes nothing
    longer = 7 * perturbed - gsam_direction(clean, 7 * perturbed, 1.0)
    torch.testing.assert_close(longer, taken, **CLOSE)
    third = perturbed - gsam_direction(clean, perturbed, 0.3)
    torch.testing.assert_close(third, 0.3 * taken, **CLOSE)
    assert torch.equal(gsam_direction(clean, perturbed, 0.0), perturbed)


def test_running_statistics_move_in_the_first_pass_alone():
    network, batches = make(nn.BatchNorm2d(4))
    flat, images, labels = FlatNetwork(network), *batches[0]
    buffers = flat.buffers()

    def loss(at, first):
        moving = buffers if first else buffers.clone()
        return F.cross_entropy(flat.logits(at, images, moving), labels)

    step(loss, flat.theta(), LR, rho=0.2, alpha=0.3)
    network.train()(images)
    torch.testing.assert_close(buffers, flat.buffers(), **CLOSE)
    assert float(buffers.abs().sum()) > 0


@pytest.mark.parametrize('momentum', [0.0, 0.9])
@pytest.mark.parametrize(('rho', 'alpha'), [(0.0, 0.0), (0.2, 0.0), (0.2, 0.3)])
def test_together_as_one_by_one(momentum, rho, alpha):
    networks = [make(seed=seed) for seed in range(3)]
    options = dict(rho=rho, alpha=alpha, momentum=momentum, weight_decay=0.01)
    flat = FlatNetwork(networks[0][0])
    thetas = torch.stack([FlatNetwork(network).theta() for network, _ in networks])
    velocities = torch.zeros_like(thetas) if momentum else None

    def one(theta, velocity, images, labels):
        def loss(at, first):
            return F.cross_entropy(flat.logits(at, images), labels)

        return step(loss, theta, LR, velocity=velocity, **options)

    axis = 0 if momentum else None
    together = torch.func.vmap(one, (0, axis, 0, 0), (0, 0, axis))
    for number in range(5):
        many = [batches[number] for _, batches in networks]
        images, labels = (torch.stack(each) for each in zip(*many, strict=True))
        thetas, _, velocities = together(thetas, velocities, images, labels)
    alone = torch.stack([run(network, batches, **options)[0] for network, batches in networks])
    torch.testing.assert_close(thetas, alone, **CLOSE)
