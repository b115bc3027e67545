"""Quantized layers: same objects and keys, gathered rows, evaluation's cache, shared inputs."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmdistill.core.errors import UserError
from mmkd.quant.functional import ternary_codes
from mmkd.quant.modules import SharedActivation, quantize_layer
from mmkd.quant.quantizers import Binary, Integer, SymmetricActivation, Ternary
from mmkd.quant.recipe import quantize, restore


class Toy(nn.Module):
    """An embedding, two projections of one tensor, and a head."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(50, 8, padding_idx=0)
        self.query, self.key = nn.Linear(8, 8), nn.Linear(8, 8)
        self.classifier = nn.Linear(8, 3)

    def forward(self, ids):
        seen = self.words(ids)
        return self.classifier((self.query(seen) * self.key(seen)).mean(1))


RECIPE = [
    dict(pattern='classifier', skip=True),
    dict(layer='Embedding', weight=dict(type='mmkd.Ternary', axis=0)),
    dict(
        layer='Linear',
        weight=dict(type='mmkd.Ternary'),
        act=dict(type='mmkd.SymmetricActivation'),
    ),
]
IDS = torch.tensor([[1, 4, 4, 0], [7, 1, 0, 0]])


def counting(quantizer, calls):
    """The quantizer, noting every call."""
    return lambda values: calls.append(1) or quantizer(values)


def test_objects_keys_and_results_survive_a_round_trip():
    model = Toy()
    before, objects = model(IDS), dict(model.named_modules())
    params, keys = dict(model.named_parameters()), list(model.state_dict())
    done = quantize(model, RECIPE)
    assert set(done) == {'words', 'query', 'key'}
    assert dict(model.named_modules()) == objects and list(model.state_dict()) == keys
    assert all(params[name] is value for name, value in model.named_parameters())
    assert isinstance(model.query, nn.Linear) and not torch.equal(model(IDS), before)
    restore(model)
    assert torch.equal(model(IDS), before)
    assert type(model.query) is nn.Linear and type(model.words) is nn.Embedding
    assert vars(model.query).keys() == vars(Toy().query).keys()


def test_the_network_computes_with_quantized_weights_and_inputs():
    model, plain = Toy(), Toy()
    quantize(model, RECIPE, shared=[('query', 'key')])
    act = SymmetricActivation()
    with torch.no_grad():
        for layer, axis in ((plain.words, 0), (plain.query, None), (plain.key, None)):
            codes, scale = ternary_codes(layer.weight, axis)
            layer.weight.copy_(codes * scale)
        seen = act(plain.words(IDS))
        expected = plain.classifier((plain.query(seen) * plain.key(seen)).mean(1))
    assert torch.equal(model(IDS), expected)


def test_gathered_rows_are_those_of_the_whole_table():
    table, whole = nn.Embedding(50, 8, padding_idx=0), nn.Embedding(50, 8, padding_idx=0)
    whole.load_state_dict(table.state_dict())
    quantizer = Ternary(axis=0)
    quantize_layer(table, quantizer)
    upstream = torch.randn(*IDS.shape, 8)
    found = table(IDS)
    found.backward(upstream)
    expected = F.embedding(IDS, quantizer(whole.weight), 0)
    expected.backward(upstream)
    assert torch.equal(found, expected) and torch.equal(table.weight.grad, whole.weight.grad)
    touched = table.weight.grad.abs().sum(1).nonzero().flatten().tolist()
    assert touched == [1, 4, 7]  # neither other rows nor the padding


@pytest.mark.parametrize('layer', [nn.Linear(4, 3), nn.Embedding(5, 4), nn.Conv2d(2, 3, 2)])
def test_evaluation_quantizes_once_until_the_weight_changes(layer):
    calls = []
    torch.nn.init.normal_(layer.weight, std=0.1)  # twice as large, they still are inside the clip
    quantize_layer(layer, Ternary())
    layer.weight_quantizer = counting_weight(calls)
    inputs = {nn.Linear: torch.randn(2, 4), nn.Embedding: torch.tensor([1, 2])}
    values = next((v for k, v in inputs.items() if isinstance(layer, k)), torch.randn(1, 2, 4, 4))
    layer.eval()
    with torch.no_grad():
        first, second = layer(values), layer(values)
        assert len(calls) == 1 and torch.equal(first, second)
        layer.weight.mul_(2)  # as an optimizer does
        assert torch.allclose(layer(values) - bias(layer, first), 2 * (first - bias(layer, first)))
        assert len(calls) == 2
        layer.load_state_dict({k: v * 0.5 for k, v in layer.state_dict().items()})
        layer(values)
        assert len(calls) == 3
    layer(values)  # with gradients nothing is kept
    layer.train()
    assert layer._kept is None and len(calls) == 4


def bias(layer, like):
    """The layer's bias in the shape of its output."""
    found = getattr(layer, 'bias', None)
    if found is None:
        return torch.zeros_like(like)
    return found.detach().view(1, -1, *[1] * (like.dim() - 2))


def counting_weight(calls):
    """A ternary quantizer that notes its calls."""

    class Counting(Ternary):
        def __call__(self, weight):
            calls.append(1)
            return super().__call__(weight)

    return Counting()


def test_a_shared_input_is_quantized_once_and_let_go():
    calls, values = [], torch.randn(4, 8, requires_grad=True)
    shared = SharedActivation(counting(SymmetricActivation(), calls), 3)
    parts = [shared(values) for _ in range(3)]
    assert len(calls) == 1 and parts[0] is parts[2] and shared._found is None
    sum(each.sum() for each in parts).backward()
    assert torch.equal(values.grad, 3 * (values.detach().abs() < 2.5))
    shared(values)
    with torch.no_grad():
        shared(values)  # another gradient mode
        values.mul_(1)  # changed in place
        shared(values)
    shared(values.detach())
    assert len(calls) == 5


def test_query_and_key_share_their_input_and_copies_have_their_own():
    model = Toy()
    quantize(model, RECIPE, shared=[('query', 'key')])
    assert isinstance(model.query.input_quantizer, SharedActivation)
    assert model.query.input_quantizer is model.key.input_quantizer
    other = copy.deepcopy(model)
    assert other.query.input_quantizer is other.key.input_quantizer
    assert other.query.input_quantizer is not model.query.input_quantizer
    assert torch.equal(other(IDS), model(IDS))


@pytest.mark.parametrize(
    ('recipe', 'message'),
    [
        ([dict(pattern='(', skip=True)], 'is no pattern'),
        ([dict(patern='x', skip=True)], r"recipe\[0\]: unknown key 'patern' .did you mean"),
        ([dict(pattern='nowhere', weight=dict(type='mmkd.Ternary'))], r'recipe\[0\] fits no layer'),
        ([dict(pattern='query')], 'give either skip=True or at least one'),
        ([dict(skip=True, weight=dict(type='mmkd.Ternary'))], 'give either skip=True'),
        ([dict(layer='LSTM', weight=dict(type='mmkd.Ternary'))], 'layer must be one of'),
        ([dict(weight=dict(type='mmkd.Ternary'), act=dict(type='mmkd.SymmetricActivation'))],
         'words is an embedding and reads ids'),
        ([dict(weight=dict(type='mmkd.Integer', num_bits=9))], 'num_bits of Integer must be 2 to'),
        ([dict(weight=dict(type='mmkd.Ternary', clip=0))], 'clip of a quantizer must be above 0'),
    ],
)  # fmt: skip
def test_wrong_recipes_say_so_and_change_nothing(recipe, message):
    model = Toy()
    with pytest.raises(UserError, match=message):
        quantize(model, recipe)
    assert all(type(each).__name__[:9] != 'Quantized' for each in model.modules())


def test_layers_of_other_classes_and_twice_quantized_ones_are_refused():
    class Own(nn.Linear):
        pass

    with pytest.raises(UserError, match='mine is a Own; only Linear, Conv2d, Embedding'):
        quantize_layer(Own(2, 2), Ternary(), name='mine')
    model = Toy()
    quantize(model, RECIPE)
    with pytest.raises(UserError, match='words is quantized already'):
        quantize(model, RECIPE)


@pytest.mark.parametrize('kind', [Ternary(), Ternary(axis=0), Binary(), Integer(num_bits=4)])
def test_convolutions_compute_with_quantized_weights(kind):
    layer = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
    plain, values = copy.deepcopy(layer), torch.randn(2, 3, 8, 8)
    quantize_layer(layer, kind)
    expected = F.conv2d(values, kind(plain.weight), stride=2, padding=1)
    assert torch.equal(layer(values), expected)


def test_scales_per_token_do_not_depend_on_the_batch():
    values = torch.randn(4, 6, 8)
    token, tensor = SymmetricActivation(granularity='token'), SymmetricActivation()
    alone = torch.cat([token(each[None]) for each in values])
    assert torch.equal(token(values), alone)
    assert not torch.equal(tensor(values), torch.cat([tensor(each[None]) for each in values]))
