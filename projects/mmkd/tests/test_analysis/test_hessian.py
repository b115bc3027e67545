"""Eigenvalues of Hessians: known ones, both kinds of products, what straight-through means."""

import pytest
import torch
from torch import nn

from mmdistill.core.errors import UserError
from mmkd.analysis.hessian import HVP, flat, gradients, hessian_product, top_eigenvalues
from mmkd.quant.functional import fake_quantize, integer_codes, ternary_codes


def draw(*shape, seed=0):
    """Normal numbers in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def matrix_of(product, size):
    """All columns."""
    return torch.stack([product(column) for column in torch.eye(size).double()], 1)


@pytest.mark.parametrize('hvp', HVP)
def test_known_eigenvalues_of_a_quadratic_loss(hvp):
    values = torch.tensor([-9.0, 7.0, 5.0, -2.0, 1.0, *[0.1] * 15]).double()
    turn = torch.linalg.qr(draw(20, 20)).Q
    matrix = turn @ torch.diag(values) @ turn.T
    parts = [nn.Parameter(draw(3, 4, seed=1)), nn.Parameter(draw(8, seed=2))]
    before = [each.detach().clone() for each in parts]

    def loss():
        return flat(parts) @ matrix @ flat(parts) / 2 + flat(parts).sum()

    with hessian_product(loss, parts, hvp) as product:
        torch.testing.assert_close(matrix_of(product, 20), matrix, atol=1e-7, rtol=0)
        found = top_eigenvalues(product, draw(20, seed=3), 3)
        alone = top_eigenvalues(product, draw(20, seed=4), 1)
    assert found.values == pytest.approx([-9.0, 7.0, 5.0], abs=1e-4)
    assert alone.values == pytest.approx([-9.0], abs=1e-4)
    assert found.products <= 7  # six different eigenvalues
    assert all(map(torch.equal, parts, before)) and all(each.grad is None for each in parts)


def test_residuals_bound_the_error_before_convergence():
    turn, values = torch.linalg.qr(draw(60, 60)).Q, draw(60, seed=1) * 5
    matrix = turn @ torch.diag(values) @ turn.T
    errors = []
    for steps in (2, 5, 10, 20):
        found = top_eigenvalues(lambda v: matrix @ v, draw(60, seed=2), 2, steps, 1e-12)
        assert found.products == steps
        for value, residual in zip(found.values, found.residuals, strict=True):
            assert float((values - value).abs().min()) <= residual + 1e-9
        errors.append(max(found.residuals))
    assert errors == sorted(errors, reverse=True)


def test_the_end_of_a_space_that_is_too_small():
    matrix = torch.diag(torch.tensor([3.0, -4.0, *[0.0] * 8]).double())
    found = top_eigenvalues(lambda v: matrix @ v, draw(10), 5)
    assert found.values == pytest.approx([-4.0, 3.0, 0.0], abs=1e-10) and found.products == 3
    nothing = top_eigenvalues(torch.zeros_like, draw(10), 2)
    assert nothing.values == [0.0]
    broken = top_eigenvalues(lambda v: v * float('nan'), draw(10), 2)
    assert all(value != value for value in broken.values) and len(broken.values) == 2


def smooth():
    """A loss of a small network, its parameters and one that it does not use."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.LayerNorm(5), nn.Linear(5, 2)).double()
    values, labels = draw(6, 4), torch.tensor([0, 1, 1, 0, 1, 0])
    parameters = [*net.parameters(), nn.Parameter(torch.ones(2).double())]
    return lambda: nn.functional.cross_entropy(net(values), labels), parameters


def test_differences_agree_with_autograd_on_a_smooth_network():
    loss, parameters = smooth()
    vector = draw(sum(each.numel() for each in parameters), seed=5)
    before = flat(parameters).detach().clone()
    found = []
    for hvp in HVP:
        with hessian_product(loss, parameters, hvp) as product:
            found.append(product(vector))
            # linear in the vector
            torch.testing.assert_close(product(-3 * vector), -3 * found[-1], atol=1e-7, rtol=1e-6)
            assert not product(torch.zeros_like(vector)).any()
    torch.testing.assert_close(*found, atol=1e-7, rtol=1e-6)
    assert not found[0][-2:].any() and found[0].abs().max() > 0.1
    assert torch.equal(flat(parameters), before)


def test_autograd_gives_the_hessian_of_torch():
    loss, parameters = smooth()
    size = sum(each.numel() for each in parameters)
    slope = flat(gradients(loss, parameters, twice=True))
    expected = torch.stack(
        [
            flat(
                torch.autograd.grad(
                    each, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
                )
            )
            for each in slope[: size - 2]
        ]
    )
    with hessian_product(loss, parameters) as product:
        found = matrix_of(product, size)
    torch.testing.assert_close(found[: size - 2], expected)
    torch.testing.assert_close(found, found.T)


def test_parameters_move_back_after_an_error_within_a_difference():
    loss, parameters = smooth()
    before, calls = flat(parameters).detach().clone(), []

    def failing():
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError('no more')
        return loss()

    with (
        pytest.raises(RuntimeError, match='no more'),
        hessian_product(failing, parameters, 'difference') as product,
    ):
        product(torch.ones_like(before))
    assert torch.equal(flat(parameters), before)


def test_the_hessian_of_ternary_weights_is_that_at_the_quantized_ones_without_clipped_ones():
    weight = nn.Parameter(torch.tensor([0.9, -0.1, 0.4, -1.2, 3.0, 0.05, -2.5]).double())
    values = draw(9, 7)

    def outer(used):
        return (values @ used).tanh().square().sum()

    codes, scale = ternary_codes(weight.detach())
    inside = (weight.detach().abs() < 2.5).double()
    hessian = torch.autograd.functional.hessian(outer, codes * scale)
    with hessian_product(lambda: outer(fake_quantize(weight, ternary_codes, 2.5)), [weight]) as hvp:
        found = matrix_of(hvp, 7)
    torch.testing.assert_close(found, inside[:, None] * hessian * inside)
    assert not found[4].any() and not found[6].any() and found.abs().max() > 0.1


def test_the_hessian_is_that_of_the_network_with_lines_in_place_of_quantizers():
    first, second = nn.Parameter(draw(5, 4) / 2), nn.Parameter(draw(2, 5, seed=1) / 2)
    values, noted = draw(6, 4, seed=2), []

    def loss(quantize, one, two):
        hidden = quantize((values @ quantize(one).T).sigmoid() * 4)
        return (hidden @ quantize(two).T).square().mean()

    def quantized(x):
        found = fake_quantize(x, integer_codes, 2.5, parameter=x is first or x is second)
        noted.append((x.detach(), found.detach(), (x.detach().abs() < 2.5).double()))
        return found

    with hessian_product(lambda: loss(quantized, first, second), [first, second]) as product:
        found = matrix_of(product, 30)
    assert len(noted) == 3 and 0 < float(noted[1][2].mean()) < 1

    def with_lines(vector):
        calls = iter(noted)  # in the same order

        def line(x):
            place, value, slope = next(calls)
            return value + slope * (x - place)

        return loss(line, vector[:20].view(5, 4), vector[20:].view(2, 5))

    expected = torch.autograd.functional.hessian(with_lines, flat([first, second]).detach())
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ('options', 'named'), [(dict(hvp='exact'), "'exact'"), (dict(step=0.0), '0.0')]
)
def test_unknown_products_are_named(options, named):
    weight = nn.Parameter(torch.ones(2))
    with (
        pytest.raises(UserError, match=named),
        hessian_product(lambda: weight.sum(), [weight], **options),
    ):
        pass


@pytest.mark.parametrize(('count', 'steps'), [(0, 5), (6, 5)])
def test_as_many_products_as_eigenvalues(count, steps):
    with pytest.raises(UserError, match=f'{count} and {steps}'):
        top_eigenvalues(lambda v: v, torch.ones(9), count, steps)


def test_a_linear_loss_has_no_curvature():
    weight = nn.Parameter(torch.ones(3))
    for hvp in HVP:
        with hessian_product(lambda: weight.sum(), [weight], hvp) as product:
            assert not product(torch.ones(3)).any()
