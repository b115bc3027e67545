"""torchao's integers against a reference of our own, before and after a training; clear errors."""

import sys

import pytest
import torch
from torch import nn

from mmdistill.core.errors import UserError
from mmkd.intervention.teacher_intervention import TeacherIntervention
from mmkd.quant.recipe import quantize
from mmkd.quant.torchao_backend import quantize_with_torchao
from mmkd.registry import MODELS

SMALL = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
BERT = dict(type='mmkd.HFClassifier', task='text', family='bert',
            config=dict(SMALL, vocab_size=30), num_labels=3)  # fmt: skip
IDS = dict(input_ids=torch.arange(3, 27).view(4, 6), attention_mask=torch.ones(4, 6).long())


def linear(seed=0):
    """A network of two linear layers."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(32, 8), nn.Linear(8, 4))


def reference(weight, bits, group=None):
    """Weights on the grid, and the size of its steps, weight by weight."""
    rows = weight.detach().double().reshape(-1, group or weight.shape[1])
    step = 2 * rows.abs().amax(1, keepdim=True) / (2**bits - 1)
    codes = (rows / step).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return (codes * step).view_as(weight), step.expand_as(rows).reshape(weight.shape)


@pytest.fixture
def torchao():
    """Skips where it is missing."""
    return pytest.importorskip('torchao')


@pytest.mark.parametrize('group', [None, 4])
@pytest.mark.parametrize('bits', [8, 4])
def test_stored_weights_are_those_of_the_reference(torchao, bits, group):
    network, full = linear(), linear()
    names = quantize_with_torchao(network, bits, mode='weight_only', group_size=group)
    assert names == ['0', '1']
    for layer, was in zip(network, full, strict=True):
        found = layer.weight.dequantize().double()
        expected, step = reference(was.weight, bits, group)
        # a weight between two steps may go either way; nothing moves by more than half a step
        assert ((found - expected).abs() <= step * (1 + 1e-5)).all()
        assert ((found - expected).abs() > 1e-6).double().mean() < 0.05
        assert ((found - was.weight).abs() <= step * (0.5 + 1e-4)).all()
    assert list(network.state_dict()) == list(full.state_dict())


@pytest.mark.parametrize('bits', [8, 4])
def test_outputs_are_as_near_as_half_a_step_allows(torchao, bits):
    network, full = linear(1)[:1], linear(1)[:1]
    quantize_with_torchao(network, bits, mode='weight_only')
    values = torch.randn(16, 32)
    step = reference(full[0].weight, bits)[1][:, 0]
    bound = values.abs().sum(1, keepdim=True).double() * step / 2
    error = (network(values) - full(values)).abs()
    assert (error <= bound + 1e-5).all() and error.max() > 0


@pytest.mark.parametrize('bits', [8, 4])
def test_what_is_trained_is_what_is_stored(torchao, bits):
    network = linear()
    before, values = list(network.parameters()), torch.randn(5, 32)
    quantize_with_torchao(network, bits, '^0$')
    assert all(a is b for a, b in zip(network.parameters(), before, strict=True))
    expected, step = reference(network[0].weight, bits)
    rounded = values.double() @ expected.T + network[0].bias.double()
    # the largest weight of a row lies between two steps and may go either way
    bound = values.abs().amax(1, keepdim=True).double() * step[:, 0] + 1e-5
    assert ((network[0](values) - rounded).abs() <= bound).all()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network(values).square().sum().backward()
    assert network[0].weight.grad.abs().sum() > 0
    optimizer.step()
    trained = network(values).detach()
    quantize_with_torchao(network, bits, '^0$', mode='weight_only')
    assert torch.allclose(network(values), trained, atol=1e-6)
    assert not network[0].weight.requires_grad and network[1].weight.requires_grad


def test_a_pattern_leaves_the_rest_alone(torchao):
    network = MODELS.build(BERT)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    names = quantize_with_torchao(network, 4, r'intermediate|\.output\.dense', 'weight_only')
    assert len(names) == 3 * 2
    for name, value in network.state_dict().items():
        inside = name.removesuffix('.weight') in names
        assert inside != (type(value) is torch.Tensor) and (
            inside or torch.equal(value, state[name])
        )


def test_a_student_of_torchao_learns_from_its_teacher(torchao):
    student = dict(
        type='mmkd.TorchAO',
        network=BERT,
        rules=[
            dict(bits=4, pattern='attention'),
            dict(bits=8, pattern=r'layer\.\d+\.(intermediate|output)\.dense'),
        ],
    )
    model = TeacherIntervention(
        BERT, student, recipe=[], attention_act=None, schedule='none', weights=dict(hidden=0.0)
    )
    losses = model(IDS, None, mode='loss')
    sum(losses.values()).backward()
    fake = [m for m in model.student.modules() if type(m).__name__ == 'FakeQuantizedLinear']
    assert len(fake) == 2 * 6
    assert all(each.weight.grad.abs().sum() > 0 for each in fake)


def test_without_torchao_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'torchao', None)
    with pytest.raises(UserError, match=r'torchao 0.14 or newer is needed .*: pip install torchao'):
        quantize_with_torchao(linear())


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(bits=2), 'bits must be 8 or 4 with torchao, got 2: for ternary .* use mmkd.Ternary'),
        (dict(bits=1.58), 'got 1.58: for ternary weights use mmkd.Ternary'),
        (dict(mode='ptq'), "mode must be one of .'qat', 'weight_only'., got 'ptq'"),
        (dict(pattern='('), "'.' is no pattern"),
    ],
)
def test_wrong_options_say_so(options, message, monkeypatch):
    monkeypatch.setitem(sys.modules, 'torchao', None)  # known before torchao is looked for
    with pytest.raises(UserError, match=message):
        quantize_with_torchao(linear(), **options)


def test_layers_that_do_not_fit_are_named(torchao):
    with pytest.raises(UserError, match="'encoder' fits no linear layer of Sequential"):
        quantize_with_torchao(linear(), pattern='encoder')
    with pytest.raises(UserError, match='group_size 16 does not divide the 8 inputs of 1'):
        quantize_with_torchao(linear(), group_size=16)
    with pytest.raises(UserError, match=r"rules\[0\].*'bit'"):
        MODELS.build(dict(type='mmkd.TorchAO', network=BERT, rules=[dict(bit=4)]))
    network = linear()
    quantize_with_torchao(network, 4, '0')
    with pytest.raises(UserError, match='0 is quantized by torchao already'):
        quantize_with_torchao(network, 4)
    with pytest.raises(UserError, match='0 was trained as torch.int4 .* stored as torch.int8'):
        quantize_with_torchao(network, 8, mode='weight_only')
    ours = linear()
    quantize(ours, [dict(weight=dict(type='mmkd.Ternary'))])
    with pytest.raises(UserError, match='0 is a QuantizedLinear; torchao takes linear layers that'):
        quantize_with_torchao(ours)
