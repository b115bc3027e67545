"""Quantizers as functions: golden values, invariances, gradients, zeros."""

import math

import pytest
import torch

from mmkd.quant.functional import binary_codes, fake_quantize, integer_codes, ternary_codes

GOLDEN = torch.tensor([[0.9, -0.1, 0.4, -1.2], [0.05, 0.3, -0.7, 2.0]])
PATTERN = torch.tensor([[1.0, 0, 0, -1], [0, 0, -1, 1]])


def plain_ternary(weight, factor=0.7, clip=2.5):
    """The rule in float64, weight by weight."""
    values = [min(max(float(w), -clip), clip) for w in weight.flatten().double()]
    border = factor * sum(map(abs, values)) / len(values)
    kept = [abs(w) for w in values if abs(w) > border]
    scale = sum(kept) / len(kept) if kept else 0.0
    return [math.copysign(scale, w) if abs(w) > border else 0.0 for w in values]


def test_golden_values_with_one_scale_and_with_one_per_row():
    codes, scale = ternary_codes(GOLDEN)
    assert torch.equal(codes, PATTERN) and scale.shape == (1, 1)
    assert float(scale) == pytest.approx((0.9 + 1.2 + 0.7 + 2.0) / 4)
    codes, scale = ternary_codes(GOLDEN, axis=0)
    assert torch.equal(codes, PATTERN) and scale.shape == (2, 1)
    assert scale.flatten().tolist() == pytest.approx([1.05, 1.35])


@pytest.mark.parametrize('axis', [None, 0, 1, -1])
@pytest.mark.parametrize('spread', [0.02, 1.0, 4.0])
def test_ternary_is_the_rule_in_float64(axis, spread):
    weight = spread * torch.randn(7, 9, generator=torch.Generator().manual_seed(1)).double()
    codes, scale = ternary_codes(weight, axis)
    groups = [weight] if axis is None else list(weight.movedim(axis, 0))
    expected = [torch.tensor(plain_ternary(each), dtype=torch.double) for each in groups]
    found = (codes * scale)[None] if axis is None else (codes * scale).movedim(axis, 0)
    for mine, rule in zip(found, expected, strict=True):
        assert torch.allclose(mine.flatten(), rule, rtol=1e-12, atol=0)


@pytest.mark.parametrize('factor', [0.5, 0.7, 1.0])
def test_the_factor_is_honoured_and_its_border_becomes_zero(factor):
    weight = torch.tensor([1.0, factor, -factor, 2 - 2 * factor + 1, -1.0])
    weight = weight / weight.abs().mean()
    kept = weight.abs() > factor * weight.abs().mean()
    codes, _ = ternary_codes(weight, factor=factor)
    assert torch.equal(codes != 0, kept)
    few, many = (ternary_codes(GOLDEN, factor=each)[0].abs().sum() for each in (1.5, 0.2))
    assert few < PATTERN.abs().sum() < many


@pytest.mark.parametrize('quantizer', [ternary_codes, binary_codes, integer_codes])
@pytest.mark.parametrize('axis', [None, 0])
def test_scale_and_sign_equivariance(quantizer, axis):
    weight = 0.3 * torch.randn(5, 8, generator=torch.Generator().manual_seed(2)).double()
    codes, scale = quantizer(weight, axis=axis)
    for factor in (2.0, -1.0, 0.25):  # exact in floating point
        other, larger = quantizer(factor * weight, axis=axis)
        assert torch.equal(other, codes * math.copysign(1, factor))
        assert torch.equal(larger, abs(factor) * scale)


@pytest.mark.parametrize('axis', [None, 0])
def test_nothing_but_zeros_stays_zero_without_nan(axis):
    for quantizer in (ternary_codes, integer_codes):
        weight = torch.zeros(3, 4, requires_grad=True)
        found = fake_quantize(weight, lambda w, q=quantizer: q(w, axis=axis), 2.5)
        found.sum().backward()
        assert torch.equal(found, torch.zeros(3, 4)) and torch.equal(weight.grad, torch.ones(3, 4))
    some = torch.tensor([[0.0, 0, 0], [1, -1, 0.01]])
    codes, scale = ternary_codes(some, axis=0)
    assert torch.equal(codes, torch.tensor([[0.0, 0, 0], [1, -1, 0]]))
    assert scale.flatten().tolist() == [0, 1]


def test_equal_magnitudes_are_a_fixed_point():
    weight = 0.5 * torch.sign(torch.randn(6, 6, generator=torch.Generator().manual_seed(3)))
    codes, scale = ternary_codes(weight)
    assert torch.equal(codes * scale, weight)


def test_gaussian_weights_have_the_known_share_of_zeros():
    """P(|x| < 0.7 E|x|) = erf(0.7 / sqrt(pi)) = 0.4235, scale 1.180, relative error 0.4375."""
    weight = 0.05 * torch.randn(400_000, generator=torch.Generator().manual_seed(4)).double()
    codes, scale = ternary_codes(weight)
    border = 0.7 * math.sqrt(2 / math.pi)
    share = math.erf(border / math.sqrt(2))
    height = math.sqrt(2 / math.pi) * math.exp(-(border**2) / 2) / (1 - share)
    assert float((codes == 0).double().mean()) == pytest.approx(share, abs=3e-3)
    assert float(scale) / 0.05 == pytest.approx(height, rel=3e-3)
    error = (codes * scale - weight).norm() / weight.norm()
    assert float(error) == pytest.approx(math.sqrt(1 - (1 - share) * height**2), rel=3e-3)


def test_golden_activations_of_eight_bits():
    values = torch.tensor([3.0, -0.013, 0.5, 1.0], requires_grad=True)
    found = fake_quantize(values, integer_codes, 2.5, parameter=False)
    found.sum().backward()
    wanted = [2.5, -0.019685, 0.492126, 1.003937]
    assert found.tolist() == pytest.approx(wanted, abs=1e-6)
    assert values.grad.tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize('bits', [2, 4, 8])
def test_integers_lie_on_the_grid_and_near(bits):
    values = torch.randn(50, 20, generator=torch.Generator().manual_seed(bits)).double()
    codes, scale = integer_codes(values, bits)
    assert torch.equal(codes, codes.round()) and codes.abs().max() == 2 ** (bits - 1) - 1
    inside = values.abs() < 2.5
    assert ((codes * scale - values).abs()[inside] <= 0.5 * scale.item() * (1 + 1e-12)).all()
    assert float(scale) == pytest.approx(min(2.5, float(values.abs().max())) / codes.abs().max())


def test_halves_are_rounded_to_even():
    codes, _ = integer_codes(torch.tensor([127.0, 0.5, 1.5, -2.5]) / 64, 8)
    assert codes.tolist() == [127, 0, 2, -2]


@pytest.mark.parametrize('parameter', [True, False])
@pytest.mark.parametrize('quantizer', [ternary_codes, binary_codes, integer_codes])
def test_gradients_pass_strictly_inside_the_clip(quantizer, parameter):
    values = torch.tensor([-3.0, -2.5, -2.4999, 0.0, 1.0, 2.4999, 2.5, 9.0], requires_grad=True)
    upstream = torch.arange(1.0, 9.0)
    fake_quantize(values, quantizer, 2.5, parameter).backward(upstream)
    inside = torch.tensor([0.0, 0, 1, 1, 1, 1, 0, 0])
    assert torch.equal(values.grad, upstream * inside)


def test_the_input_is_left_alone():
    for quantizer in (ternary_codes, binary_codes, integer_codes):
        weight = GOLDEN.clone()
        fake_quantize(weight, quantizer, 2.5)
        assert torch.equal(weight, GOLDEN)


def test_binary_has_two_values():
    codes, scale = binary_codes(torch.tensor([[0.0, -2.0], [3.0, -0.5]]))
    assert codes.tolist() == [[1, -1], [1, -1]] and float(scale) == pytest.approx(5.0 / 4)


@pytest.mark.parametrize('size', [0.0, 0.3, 2.5, 7.0])
@pytest.mark.parametrize('axis', [None, 0])
@pytest.mark.parametrize('quantizer', [ternary_codes, binary_codes, integer_codes])
def test_known_bounds_change_no_bit(quantizer, axis, size):
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(31, 17, generator=draw)
    weight *= size / weight.abs().max()
    bounds = weight.min().item(), weight.max().item()
    for found, wanted in zip(
        quantizer(weight, axis=axis, bounds=bounds), quantizer(weight, axis=axis), strict=True
    ):
        assert torch.equal(found, wanted)
