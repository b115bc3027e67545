"""Networks for tables: sizes, an explicit one-hot model, checkpoints and what is wrong."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmdistill.core.errors import UserError
from mmkd.models.tabular import TabularMLP, WideAndDeep
from mmkd.registry import MODELS

SIZES = (3, 1, 5)
IDS = torch.tensor([[0, 0, 0], [2, 0, 4], [1, 0, 3], [2, 0, 1]])


def _numbers(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def _wide_and_deep(**options):
    torch.manual_seed(0)
    return WideAndDeep(**{**dict(numeric=2, cardinalities=SIZES, embedding=4), **options})


def _count(network):
    return sum(each.numel() for each in network.parameters())


@pytest.mark.parametrize('features', [128, 7])
@pytest.mark.parametrize(
    ('hidden', 'inner'),
    [
        # the layers behind the first one, and its own biases
        ((512, 256, 128, 64, 32), 512 + 131_328 + 32_896 + 8_256 + 2_080 + 99),
        ((64, 32), 64 + 2_080 + 99),
        ((), 3),
    ],
)
def test_layers_have_the_published_sizes(features, hidden, inner):
    network = TabularMLP(features, hidden, num_classes=3)
    first = hidden[0] if hidden else 3
    assert _count(network) == features * first + inner
    assert network(numeric=_numbers(5, features)).logits.shape == (5, 3)
    names = [name for name, _ in network.named_children()]
    assert names == [f'stage{n}' for n in range(1, len(hidden) + 1)] + ['head']


@pytest.mark.parametrize(
    ('act', 'function'),
    [('LeakyReLU', lambda x: torch.where(x > 0, x, 0.01 * x)), ('Tanh', torch.tanh)],
)
def test_a_pass_is_products_and_activations(act, function):
    torch.manual_seed(0)
    network, rows = TabularMLP(6, (5, 4), 3, act=act).double(), _numbers(7, 6).double()
    w1, b1, w2, b2, w3, b3 = network.parameters()
    wanted = function(function(rows @ w1.T + b1) @ w2.T + b2) @ w3.T + b3
    torch.testing.assert_close(network(numeric=rows).logits, wanted)


def test_dropout_works_in_trainings_alone():
    torch.manual_seed(0)
    network = TabularMLP(6, (400,), 2, dropout=0.25)
    seen = []
    network.stage1.register_forward_hook(lambda module, args, output: seen.append(output))
    network(numeric=_numbers(50, 6))
    share = (seen[0] == 0).double().mean()
    # 20 000 features: five deviations are 0.015
    assert float(share) == pytest.approx(0.25, abs=0.015)
    network.eval()(numeric=_numbers(50, 6))
    assert (seen[1] != 0).all()
    torch.testing.assert_close(seen[0], torch.where(seen[0] == 0, 0, seen[1] / 0.75))


def test_wide_and_deep_sizes_by_arithmetic():
    # 13 numbers and 26 columns, as advertisements have
    sizes = list(range(2, 28))
    total = sum(sizes)
    network = WideAndDeep(13, sizes)
    wide = total * 2 + 13 * 2
    deep = total * 16 + (13 + 26 * 16) * 64 + 64 + 64 * 64 + 64 + 64 * 2 + 2
    assert _count(network) == wide + deep
    ids = torch.tensor(sizes).expand(4, -1) - 1
    assert network(numeric=_numbers(4, 13), categories=ids).logits.shape == (4, 2)


def test_wide_part_is_a_linear_model_of_one_hot_columns():
    network = _wide_and_deep(num_classes=3).double()
    nn.init.zeros_(network.head.weight)
    rows = _numbers(4, 2).double()
    hot = [F.one_hot(IDS[:, column], size) for column, size in enumerate(SIZES)]
    inputs = torch.cat([rows, *hot], dim=1)
    weight = torch.cat([network.wide_numeric.weight.T, network.wide_categories.weight])
    found = network(numeric=rows, categories=IDS).logits
    torch.testing.assert_close(found, inputs @ weight + network.head.bias)
    assert weight.abs().max() <= (2 + sum(SIZES)) ** -0.5


def test_deep_part_sees_the_embeddings_of_every_column():
    network = _wide_and_deep().double()
    nn.init.zeros_(network.wide_numeric.weight)
    nn.init.zeros_(network.wide_categories.weight)
    rows = _numbers(4, 2).double()
    tables = network.embeddings.weight.split(list(SIZES))
    inner = torch.cat([rows, *(t[IDS[:, n]] for n, t in enumerate(tables))], dim=1)
    for stage in (network.stage1, network.stage2):
        inner = (inner @ stage[0].weight.T + stage[0].bias).relu()
    wanted = inner @ network.head.weight.T + network.head.bias
    torch.testing.assert_close(network(numeric=rows, categories=IDS).logits, wanted)


def test_every_parameter_gets_a_gradient():
    network = _wide_and_deep()
    F.cross_entropy(network(_numbers(4, 2), IDS).logits, torch.tensor([0, 1, 0, 1])).backward()
    for name, each in network.named_parameters():
        assert each.grad.any(), name
    # id 2 of the last column is in no row
    for table in (network.wide_categories, network.embeddings):
        seen = table.weight.grad.any(1).tolist()
        assert seen == [True] * 6 + [False] + [True] * 2
    plain = TabularMLP(2)
    F.cross_entropy(plain(_numbers(4, 2)).logits, torch.tensor([0, 1, 0, 1])).backward()
    assert all(each.grad.any() for each in plain.parameters())


@pytest.mark.parametrize(
    ('config', 'other', 'shape'),
    [
        (dict(type='mmkd.TabularMLP', in_features=2), dict(in_features=3), 'stage1.0.weight'),
        (
            dict(type='mmkd.WideAndDeep', numeric=2, cardinalities=SIZES),
            dict(cardinalities=(3, 2, 5)),
            'wide_categories.weight',
        ),
    ],
)
def test_weights_come_out_of_a_checkpoint_of_a_training(config, other, shape, tmp_path):
    network, path = MODELS.build(dict(config)), tmp_path / 'iter_1.pth'
    state = {f'network.{key}': value for key, value in network.state_dict().items()}
    torch.save(dict(state_dict=state), path)
    read = MODELS.build(dict(config, checkpoint=str(path)))
    inputs = dict(numeric=_numbers(4, 2))
    if 'cardinalities' in config:
        inputs['categories'] = IDS
    assert torch.equal(read(**inputs).logits, network(**inputs).logits)
    with pytest.raises(UserError, match=f'iter_1.pth: {shape} has shape'):
        MODELS.build(dict(config, **other, checkpoint=str(path)))
    with pytest.raises(UserError, match='its weights are not those of a'):
        MODELS.build(dict(config, hidden=(8,), checkpoint=str(path)))


@pytest.mark.parametrize(
    ('place', 'value', 'message'),
    [
        ((1, 0), 3, 'column 0 has id 3 in row 1 of the batch; its cardinality is 3, .* 0 to 2'),
        ((3, 1), 1, 'column 1 has id 1 in row 3 of the batch; its cardinality is 1, .* 0 to 0'),
        ((0, 2), -1, 'column 2 has id -1 in row 0 of the batch; its cardinality is 5'),
    ],
)
def test_an_id_out_of_range_is_named(place, value, message):
    wrong = IDS.clone()
    wrong[place] = value
    with pytest.raises(UserError, match=message):
        _wide_and_deep()(numeric=_numbers(4, 2), categories=wrong)


def test_what_is_wrong_is_named():
    with pytest.raises(UserError, match="act 'LeakyRelu' is none .*mean 'LeakyReLU'"):
        TabularMLP(2, act='LeakyRelu')
    with pytest.raises(UserError, match=r'dropout must be in \[0, 1\), got 1.0'):
        TabularMLP(2, dropout=1.0)
    with pytest.raises(UserError, match=r'numeric must be \(B, 2\), got \(4, 3\)'):
        TabularMLP(2)(numeric=_numbers(4, 3))
    with pytest.raises(UserError, match=r'categories must be \(B, 3\), got \(4, 1\)'):
        _wide_and_deep()(numeric=_numbers(4, 2), categories=IDS[:, :1])
    with pytest.raises(UserError, match=r'cardinalities must be positive, .* got \[3, 0\]'):
        _wide_and_deep(cardinalities=(3, 0))
    with pytest.raises(UserError, match=r'got \[\]; TabularMLP is for rows without categories'):
        _wide_and_deep(cardinalities=())
    with pytest.raises(UserError, match='numeric must be a positive number of columns, got 0'):
        _wide_and_deep(numeric=0)
    with pytest.raises(UserError, match='nowhere.pth: there is no such checkpoint'):
        TabularMLP(2, checkpoint='nowhere.pth')
