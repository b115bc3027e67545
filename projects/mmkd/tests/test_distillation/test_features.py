"""Recorded outputs: the right tensors, no trace in the network, names that are checked."""

import copy
import weakref

import pytest
import torch
from torch import nn
from torch.func import functional_call

from mmdistill.core.errors import UserError
from mmkd.distillation.connectors import ConvConnector, LinearConnector
from mmkd.distillation.features import FeatureRecorder
from mmkd.registry import MODELS


class Pair(nn.Module):
    """Returns more than one thing, as it is told."""

    kind = 'tuple'

    def forward(self, x):
        """Of the kind."""
        return dict(
            tuple=(None, x + 1, x + 2), list=[x + 1, x], dict=dict(a=x + 1, b=x), text='none'
        )[self.kind]


class Network(nn.Module):
    """Two linear layers, of which the second runs twice; then something that is no tensor."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
        self.middle = nn.Linear(4, 4)
        self.same = self.middle
        self.pair = Pair()

    def forward(self, x):
        """Results of the middle layer, both times, and of the pair."""
        first = self.middle(self.stem(x))
        second = self.middle(first)
        self.pair(second)
        return first, second


@pytest.fixture
def network():
    """With fixed weights."""
    torch.manual_seed(0)
    return Network()


def hooks(network):
    """Number of hooks by module."""
    return {name: len(each._forward_hooks) for name, each in network.named_modules()}


def test_the_outputs_of_the_modules(network):
    x = torch.randn(2, 3)
    with FeatureRecorder(network, ['stem.0', 'stem', 'middle', 'same']).recording() as found:
        assert not found
        first, second = network(x)
    assert set(found) == {'stem.0', 'stem', 'middle', 'same'}
    assert torch.equal(found['stem.0'], network.stem[0](x))
    assert torch.equal(found['stem'], network.stem[0](x).tanh())
    assert found['middle'] is second and found['same'] is second and second is not first


def test_gradients_flow_through_what_is_recorded(network):
    with FeatureRecorder(network, ['stem']).recording() as found:
        network(torch.randn(2, 3))
    found['stem'].sum().backward()
    assert network.stem[0].weight.grad.abs().sum() > 0 and network.middle.weight.grad is None


def test_of_several_tensors_the_first(network):
    recorder = FeatureRecorder(network, ['pair'])
    for kind in ('tuple', 'list', 'dict'):
        network.pair.kind = kind
        with recorder.recording() as found:
            _, second = network(torch.randn(2, 3))
        assert torch.equal(found['pair'], second + 1)
    network.pair.kind = 'text'
    with (
        pytest.raises(UserError, match="module 'pair' returns a str without a tensor"),
        recorder.recording(),
    ):
        network(torch.randn(2, 3))
    assert not any(hooks(network).values())


def test_nothing_is_left_and_foreign_hooks_stay(network):
    calls = []
    network.middle.register_forward_hook(lambda *call: calls.append(1))
    before = hooks(network)
    recorder = FeatureRecorder(network, ['stem', 'middle'])
    assert hooks(network) == before
    with recorder.recording() as found:
        assert hooks(network)['middle'] == 2
        network(torch.randn(2, 3))
    assert hooks(network) == before and len(calls) == 2
    kept = dict(found)
    network(torch.randn(2, 3))
    assert found == kept and len(calls) == 4
    with pytest.raises(ZeroDivisionError), recorder.recording():
        raise ZeroDivisionError
    assert hooks(network) == before


def test_blocks_inside_blocks(network):
    recorder = FeatureRecorder(network, ['middle'])
    x, y = torch.randn(2, 2, 3)
    with recorder.recording() as outer:
        _, first = network(x)
        assert outer['middle'] is first
        with recorder.recording() as inner:
            _, second = network(y)
        assert inner['middle'] is second
        _, third = network(x)
    assert inner['middle'] is second and outer['middle'] is third
    assert not any(hooks(network).values())


def test_no_graph_is_kept(network):
    recorder = FeatureRecorder(network, ['stem'])
    with recorder.recording() as found:
        network(torch.randn(2, 3))
    tensor = weakref.ref(found['stem'])
    assert tensor() is not None and tensor().grad_fn is not None
    del found
    assert tensor() is None


def test_at_other_parameters(network):
    other = {name: torch.zeros_like(each) for name, each in network.named_parameters()}
    other['stem.0.bias'] = torch.tensor([1.0, 2, 3, 4]).requires_grad_()
    with FeatureRecorder(network, ['stem.0']).recording() as found:
        functional_call(network, other, torch.randn(2, 3))
    assert torch.equal(found['stem.0'], torch.tensor([[1.0, 2, 3, 4]] * 2))
    found['stem.0'].sum().backward()
    assert other['stem.0.bias'].grad.tolist() == [2] * 4 and network.stem[0].bias.grad is None


def test_a_copy_records_the_copied_network(network):
    holder = nn.ModuleDict(dict(network=network))
    holder.recorder = FeatureRecorder(network, ['stem'])
    assert set(holder.state_dict()) == {f'network.{name}' for name in network.state_dict()}
    twin = copy.deepcopy(holder)
    with twin.recorder.recording() as found:
        network(torch.randn(2, 3))
        assert not found
        twin['network'](torch.randn(2, 3))
    assert set(found) == {'stem'}


def test_names_are_checked(network):
    message = (
        r"Network has no module 'stem\.2' \(did you mean 'stem\.\d'.*\); it has stem, middle, "
        r".*pair, and those within them such as 'stem\.0'"
    )
    with pytest.raises(UserError, match=message):
        FeatureRecorder(network, ['middle', 'stem.2'])
    with pytest.raises(UserError, match="Sequential has no module 'stem'; it has 0, 1$"):
        FeatureRecorder(network.stem, ['stem'])


@pytest.mark.parametrize('norm', [False, True])
def test_a_convolution_of_one_pixel(norm):
    connector = MODELS.build(
        dict(type=ConvConnector, in_channels=3, out_channels=5, norm=norm)
    ).double()
    x = torch.randn(4, 3, 2, 6, dtype=torch.float64)
    weight, bias = connector.conv.weight[:, :, 0, 0], connector.conv.bias
    expected = torch.einsum('oc,bchw->bohw', weight, x)
    if norm:
        assert bias is None
        mean, var = expected.mean((0, 2, 3)), expected.var((0, 2, 3), unbiased=False)
        expected = (expected - mean.view(-1, 1, 1)) / (var.view(-1, 1, 1) + 1e-5).sqrt()
    else:
        expected = expected + bias.view(-1, 1, 1)
    assert torch.allclose(connector(x), expected, rtol=1e-10)


def test_a_linear_layer_for_vectors_and_tokens():
    connector = MODELS.build(dict(type=LinearConnector, in_channels=3, out_channels=5))
    x = torch.randn(4, 7, 3)
    assert connector(x).shape == (4, 7, 5)
    assert torch.allclose(connector(x)[:, 2], connector(x[:, 2]), atol=1e-6)
    assert torch.allclose(connector(x), x @ connector.linear.weight.T + connector.linear.bias)


def test_features_of_another_width_are_named():
    with pytest.raises(UserError, match=r'needs \(B, 3, h, w\), got \(2, 4, 1, 1\)'):
        ConvConnector(3, 5)(torch.zeros(2, 4, 1, 1))
    with pytest.raises(UserError, match=r'ConvConnector\(in_channels=3\) .*got \(2, 3\)'):
        ConvConnector(3, 5)(torch.zeros(2, 3))
    with pytest.raises(UserError, match=r'LinearConnector\(in_channels=3\) .*got \(2, 4\)'):
        LinearConnector(3, 5)(torch.zeros(2, 4))
