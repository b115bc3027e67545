"""Features are picked up in one pass, and nothing stays behind."""

import pytest
import torch
from torch import nn

from mmdistill.core.errors import UserError
from mmdistill.pose.feature_tap import as_map, extra_tokens_of, tapped


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 5), nn.ReLU()))


def hooks(model):
    return sum(len(part._forward_hooks) for part in model.modules())


def test_the_features_are_those_of_the_pass():
    model, x = net(), torch.randn(2, 3)
    with tapped(model, ['0', '1.0']) as found:
        result = model(x)
    assert torch.equal(found['0'], model[0](x)) and torch.equal(result, found['1.0'].relu())
    assert found['0'].requires_grad and hooks(model) == 0
    model(x + 1)
    assert torch.equal(found['0'], model[0](x)), 'a later pass is no business of the block'


def test_blocks_nest_and_have_their_own_features():
    model, x = net(), torch.randn(2, 3)
    with tapped(model, ['0']) as outer:
        model(x)
        first = outer['0']
        with tapped(model, ['0', '1']) as inner:
            model(x + 1)
        assert inner['0'] is outer['0'] and inner['0'] is not first
        model(x + 2)
        assert inner['0'] is not outer['0'] and '1' not in outer
    assert hooks(model) == 0


def test_hooks_go_after_an_error():
    model = net()
    with pytest.raises(RuntimeError), tapped(model, ['0', '1']):
        model(torch.randn(2, 9))
    assert hooks(model) == 0
    with (
        pytest.raises(UserError, match=r"no stage 'layer3'.*'1\.0'"),
        tapped(model, ['0', 'layer3']),
    ):
        pass
    assert hooks(model) == 0


def test_tokens_become_the_map_they_came_from():
    maps = torch.randn(2, 7, 4, 3)
    tokens = maps.flatten(2).transpose(1, 2)
    assert torch.equal(as_map(tokens, 'a', (48, 64)), maps)
    extra = torch.cat([torch.zeros(2, 2, 7), tokens], 1)
    assert torch.equal(as_map(extra, 'a', (48, 64), extra_tokens=2), maps)
    assert as_map([maps, tokens], 'a', (48, 64)) is maps
    assert torch.equal(as_map((None, None, tokens), 'a', (48, 64), index=2), maps)


@pytest.mark.parametrize(
    ('output', 'message'),
    [
        (torch.zeros(2, 13, 7), 'no grid'),
        (torch.zeros(2, 16, 7), 'no grid'),  # 4 x 4 tokens on a 3 : 4 input
        (torch.zeros(2, 0, 7), 'no grid'),
        (torch.zeros(2, 7), 'neither'),
        (dict(a=1), 'dict'),
        ([torch.zeros(2, 7)] * 2, 'neither'),
        ([], 'none of index 0'),
    ],
)
def test_what_is_no_map_is_refused(output, message):
    with pytest.raises(UserError, match=message):
        as_map(output, 'a', (48, 64))


def test_extra_tokens():
    model = net()
    assert extra_tokens_of(model) == 0
    model.cls_token = nn.Parameter(torch.zeros(1, 1, 3))
    assert extra_tokens_of(model) == 1
    model.num_extra_tokens = 0
    assert extra_tokens_of(model) == 0
