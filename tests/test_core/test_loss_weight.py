"""Ramps of the unsupervised weight: values by hand, a function of the iteration alone."""

import math

import pytest
from mmengine.hooks import Hook

from mmdistill.core.errors import UserError
from mmdistill.core.hooks.loss_weight import SHAPES, UnsupWeightRampHook, ramped_weight
from mmdistill.testing import ToyDataset, ToyModel, ToySemiModel, toy_runner


@pytest.mark.parametrize(
    'shape, values',
    [
        ('constant', [2.0, 2.0, 2.0]),
        ('linear', [0.0, 0.5, 1.0]),
        ('sigmoid', [2 * math.exp(-5), 2 * math.exp(-5 * 0.75**2), 2 * math.exp(-5 / 4)]),
        ('cosine', [0.0, 1 - math.cos(math.pi / 4), 1.0]),
    ],
)
def test_values_by_hand(shape, values):
    found = [ramped_weight(step, 2.0, 40, 10, shape) for step in (10, 20, 30)]
    assert found == pytest.approx(values)


@pytest.mark.parametrize('shape', SHAPES)
def test_zero_before_full_behind_and_never_falling(shape):
    values = [ramped_weight(step, 0.7, 25, 5, shape) for step in range(60)]
    assert values[:5] == [0.0] * 5 and values[30:] == [0.7] * 30
    assert values == sorted(values) and all(0 <= value <= 0.7 for value in values)


def test_no_ramp_is_a_step():
    assert [ramped_weight(step, 3.0, 0, 2, 'sigmoid') for step in range(4)] == [0, 0, 3, 3]


class Recorder(Hook):
    def __init__(self):
        self.weights, self.ratios = [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.weights.append(float(runner.model.unsup_weight))


def test_writes_the_buffer_before_the_step(tmp_path):
    recorder = Recorder()
    ramp = dict(
        type='mmdistill.UnsupWeightRampHook', ramp_iters=4, weight=2.0, begin=1, shape='linear'
    )
    dataset = ToyDataset(branches=('sup', 'unsup_teacher', 'unsup_student'))
    runner = toy_runner(tmp_path, ToySemiModel(), 7, dataset, hooks=[ramp, recorder])
    runner.train()
    assert recorder.weights == [0, 0, 0.5, 1, 1.5, 2, 2]
    assert runner.message_hub.get_scalar('train/unsup_weight').current() == 2


@pytest.mark.parametrize(
    'settings, words',
    [
        (dict(shape='exponential'), "'exponential'"),
        (dict(ramp_iters=-1), 'ramp_iters'),
        (dict(weight=-0.5), 'weight'),
        (dict(begin=-2), 'begin'),
    ],
)
def test_errors(settings, words):
    with pytest.raises(UserError, match=words):
        UnsupWeightRampHook(**settings)


def test_a_model_without_a_teacher_is_refused(tmp_path):
    hook = UnsupWeightRampHook()
    runner = toy_runner(tmp_path, ToyModel(), 1, ToyDataset(), hooks=[hook])
    with pytest.raises(UserError, match='UnsupWeightRampHook needs a SemiModel.* is a ToyModel'):
        runner.train()
