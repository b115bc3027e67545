"""Diagnostics: golden shares, distances that are 0 for equal networks, nothing is changed."""

import copy

import pytest
import torch
from mmengine.logging import MessageHub
from torch import nn
from transformer_cases import bert, sentences

from mmdistill.testing import assert_same_state
from mmkd.intervention.diagnostics import (
    QuantDiagnosticsHook,
    clip_rates,
    codes_of,
    distance_by_layer,
    share_of_flips,
    share_of_zeros,
)
from mmkd.intervention.teacher_intervention import TeacherIntervention
from mmkd.quant.modules import quantize_layer
from mmkd.quant.quantizers import SymmetricActivation, Ternary


def network():
    """Two ternary layers with known codes."""
    made = nn.Sequential(nn.Linear(4, 1, bias=False), nn.Linear(1, 2, bias=False))
    with torch.no_grad():
        made[0].weight.copy_(torch.tensor([[1.0, -1, 0.1, 0]]))
        made[1].weight.copy_(torch.tensor([[1.0], [1]]))
    for layer in made:
        quantize_layer(layer, Ternary(), SymmetricActivation(clip=2.0))
    return made


def test_zeros_and_flips_are_means_over_layers():
    made = network()
    before = codes_of(made)
    assert before['0'].tolist() == [[1, -1, 0, 0]] and before['1'].tolist() == [[1], [1]]
    assert float(share_of_zeros(before)) == pytest.approx((0.5 + 0.0) / 2)
    with torch.no_grad():
        made[0].weight[0, 3] = 2.0  # 0 becomes 1; the others stay above or below the border
        made[1].weight[0, 0] = -1.0
    after = codes_of(made)
    assert after['0'].tolist() == [[1, -1, 0, 1]]
    assert float(share_of_flips(after, before)) == pytest.approx((0.25 + 0.5) / 2)
    assert float(share_of_flips(after, after)) == 0


def test_clipping_is_counted_where_inputs_are_quantized():
    made = network()
    with clip_rates(made) as found:
        made(torch.tensor([[2.0, 1.9, -3.0, 0.0]]))
    assert len(found) == 2 and float(found[0]) == 0.5
    made(torch.ones(1, 4))
    assert len(found) == 2  # the hooks are gone


def test_equal_networks_have_no_distance_and_quantized_ones_do():
    plain = TeacherIntervention(bert(), recipe=[], attention_act=None)
    distances, clipped = distance_by_layer(plain, sentences())
    assert len(distances) == 4 and max(map(float, distances)) < 1e-12 and float(clipped) == 0
    ternary = TeacherIntervention(bert())
    distances, _ = distance_by_layer(ternary, sentences())
    assert min(map(float, distances)) > 1e-4


def test_the_hook_logs_and_changes_nothing():
    class Run:
        message_hub, iter = MessageHub.get_instance('diagnostics'), 1

    run = Run()
    run.model = TeacherIntervention(bert(hidden_dropout_prob=0.1)).train()
    state = copy.deepcopy(run.model.state_dict())
    hook, numbers = QuantDiagnosticsHook(interval=2), torch.get_rng_state()
    hook.before_train(run)
    hook.after_train_iter(run, 1, dict(inputs=sentences()))
    assert run.model.training and run.model.student.training
    assert_same_state(dict(run.model.state_dict()), dict(state))
    assert torch.equal(torch.get_rng_state(), numbers)
    names = {name.removeprefix('train/quant/') for name in run.message_hub.log_scalars}
    assert names == {'zeros', 'flips', 'clipped', 'mse_0', 'mse_1', 'mse_2', 'mse_3'}
    zeros = run.message_hub.get_scalar('train/quant/zeros').current()
    assert 0.2 < zeros < 0.6 and run.message_hub.get_scalar('train/quant/flips').current() == 0
    run.iter = 2
    hook.after_train_iter(run, 2, None)  # not due
