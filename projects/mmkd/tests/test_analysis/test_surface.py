"""Surfaces: known forms, lengths of directions, weights as before, quantized networks anew."""

import copy
import io

import pytest
import torch
from torch import nn

from mmdistill.core.errors import UserError
from mmkd.analysis.directions import filter_normalised
from mmkd.analysis.report import ProgressLine, plain
from mmkd.analysis.surface import grid_steps, loss_surface
from mmkd.quant.modules import quantize_layer
from mmkd.quant.quantizers import SymmetricActivation, Ternary


def generator(seed=0):
    """On the CPU."""
    return torch.Generator().manual_seed(seed)


def test_rows_of_directions_are_as_long_as_those_of_the_weights():
    layers = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Linear(7, 4), nn.LayerNorm(6), nn.Embedding(9, 2))
    with torch.no_grad():
        layers[3].weight[4] = 0
        layers[1].weight[2] *= 50
    weights = dict(layers.named_parameters())
    found = dict(zip(weights, filter_normalised(weights.values(), generator()), strict=True))
    for name, weight in weights.items():
        assert found[name].shape == weight.shape and found[name].dtype == weight.dtype
        if weight.dim() < 2:
            assert not found[name].any()
        else:
            rows = found[name].flatten(1).norm(dim=1), weight.flatten(1).norm(dim=1)
            torch.testing.assert_close(*rows, rtol=1e-5, atol=0)
    assert not found['3.weight'][4].any()
    # a direction and not the weights: hardly parallel
    assert (
        torch.cosine_similarity(found['0.weight'].flatten(), weights['0.weight'].flatten(), 0) < 0.5
    )


def test_directions_depend_on_their_generator_alone():
    weight = torch.randn(30, 40, generator=generator())
    one, same = (filter_normalised([weight], generator(1))[0] for _ in range(2))
    torch.manual_seed(5)
    state = torch.get_rng_state()
    third = filter_normalised([weight], generator(2))[0]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one, same) and not torch.equal(one, third)
    # weights of other size, rows of other size: the same direction
    scale = torch.rand(30, 1, generator=generator()) + 0.5
    torch.testing.assert_close(filter_normalised([weight * scale], generator(1))[0], one * scale)


def test_a_quadratic_loss_gives_the_quadratic():
    parts = [torch.randn(3, 4, generator=generator()).double(), torch.randn(5).double()]
    matrix = torch.randn(17, 17, generator=generator(1)).double()

    def value(theta):
        vector = torch.cat([each.flatten() for each in theta])
        return vector @ matrix @ vector + vector.sum()

    moved = [nn.Parameter(each.clone()) for each in parts]
    first, second = (filter_normalised(parts, generator(seed)) for seed in (2, 3))
    surface = loss_surface(lambda: value(moved), moved, first, second, 7, 1.5)
    assert surface.steps.tolist() == pytest.approx([-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5])
    expected = [
        [
            value([p + a * x + b * y for p, x, y in zip(parts, first, second, strict=True)])
            for b in surface.steps
        ]
        for a in surface.steps
    ]
    torch.testing.assert_close(surface.losses, torch.tensor(expected).double())
    # third differences of a polynomial of degree two vanish
    for dim in (0, 1):
        assert surface.losses.diff(n=3, dim=dim).abs().max() < 1e-10 * surface.losses.abs().max()
    assert surface.centre == float(value(parts))


def network():
    """Two ternary layers with 8-bit inputs."""
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3))
    for number in (0, 2):
        quantize_layer(made[number], Ternary(), SymmetricActivation())
    return made.eval()


def bits(tensors):
    """Values as integers, so that -0 and 0 differ."""
    return [each.detach().clone().view(torch.int32) for each in tensors]


def test_parameters_are_the_same_bits_afterwards_and_after_an_error():
    made, values = network(), torch.randn(4, 6, generator=generator())
    with torch.no_grad():
        made[0].weight[0, 0] = -0.0
        made[0].weight[0, 1] = 1e-42  # below the normal numbers
    parameters = list(made.parameters())
    before, objects = bits(parameters), [id(each) for each in made.parameters()]
    directions = [filter_normalised(parameters, generator(seed)) for seed in (1, 2)]
    calls = []

    def loss():
        calls.append(torch.is_grad_enabled())
        if len(calls) == 30:
            raise RuntimeError('no more')
        return made(values).square().sum()

    surface = loss_surface(loss, parameters, *directions, 5, 0.5)
    assert len(calls) == 25 and not any(calls) and surface.losses.std() > 0
    with pytest.raises(RuntimeError, match='no more'):
        loss_surface(loss, parameters, *directions, 5, 0.5)
    assert all(map(torch.equal, bits(parameters), before))
    assert [id(each) for each in made.parameters()] == objects
    assert all(each.grad is None for each in parameters)


def test_a_quantized_network_quantizes_at_each_point():
    made, values = network(), torch.randn(4, 6, generator=generator())
    parameters = list(made.parameters())
    first, second = (filter_normalised(parameters, generator(seed)) for seed in (1, 2))

    def loss(net=made):
        return net(values).square().sum()

    surface = loss_surface(loss, parameters, first, second, 3, 0.7)
    for i, a in enumerate(surface.steps.tolist()):
        for j, b in enumerate(surface.steps.tolist()):
            other = copy.deepcopy(made)
            other.load_state_dict(
                {
                    name: (each + a * x) + b * y
                    for (name, each), x, y in zip(
                        made.state_dict().items(), first, second, strict=True
                    )
                }
            )
            with torch.no_grad():
                expected = float(loss(other.train()))
            assert float(surface.losses[i, j]) == pytest.approx(expected, rel=1e-5)
    with torch.no_grad():  # what evaluation had kept of the last point is not used again
        assert float(loss()) == surface.centre


@pytest.mark.parametrize('grid', [2, 20, 1])
def test_a_grid_has_a_middle(grid):
    with pytest.raises(UserError, match=f'odd.*{grid}'):
        grid_steps(grid, 1.0)


@pytest.mark.parametrize('extent', [0.0, -1.0, float('inf'), float('nan')])
def test_an_extent_is_above_0(extent):
    with pytest.raises(UserError, match='extent'):
        grid_steps(5, extent)
    assert float(grid_steps(5, 0.3)[2]) == 0.0


def test_progress_counts_all_points_and_tells_what_is_left():
    seen = []
    weight = nn.Parameter(torch.ones(2, 2))
    loss_surface(
        lambda: weight.sum(), [weight], [weight.detach()], [weight.detach()], 3, 1.0,
        lambda *counts: seen.append(counts),
    )  # fmt: skip
    assert seen == [(number, 9) for number in range(1, 10)]
    times, stream = iter([0.0, 2.0, 6.0, 8.0, 20.0]), io.StringIO()
    line = ProgressLine('surface', 5.0, stream, lambda: next(times))
    for done in (1, 2, 3, 4):
        line(done, 4)
    assert stream.getvalue().splitlines() == ['surface: 2 of 4, 6 s left', 'surface: 4 of 4, 20 s']


def test_numbers_that_json_lacks_become_none():
    given = dict(a=[1.0, float('nan')], b=(float('-inf'), 2), c='x')
    assert plain(given) == dict(a=[1.0, None], b=[None, 2], c='x')
