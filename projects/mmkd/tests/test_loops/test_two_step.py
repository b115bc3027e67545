"""Two phases in one run: a fresh optimizer at the boundary, exact resume on either side."""

import copy

import pytest
import torch
from mmengine.hooks import Hook

import mmkd.components  # noqa: F401
from mmdistill.core.errors import UserError
from mmdistill.testing import assert_same_state, toy_runner

SCHEDULE = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=3, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=3, end=5, by_epoch=False),
]
SECOND = [
    dict(type='LinearLR', start_factor=0.2, begin=0, end=2, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=2, end=7, by_epoch=False),
]


class Notes(Hook):
    """Learning rates, steps of the optimizer and the parameters after each iteration."""

    def __init__(self):
        self.rates, self.steps, self.states = [], [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.rates.append(runner.optim_wrapper.get_lr()['lr'][0])

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        found = runner.optim_wrapper.optimizer.state.values()
        self.steps.append({int(each['step']) for each in found})
        self.states.append(copy.deepcopy(runner.model.state_dict()))


def trained(folder, iters=12, first=5, resume=False, second=None, **loop):
    """A run of two phases; a checkpoint after each iteration."""
    notes = Notes()
    settings = dict(first_iters=first, second_scheduler=SECOND if second is None else second)
    runner = toy_runner(
        folder,
        hooks=[notes],
        train_cfg=dict(type='mmkd.TwoStepTrainLoop', max_iters=iters, **settings, **loop),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
        param_scheduler=SCHEDULE,
        default_hooks=dict(
            checkpoint=dict(type='mmdistill.SafeCheckpointHook', by_epoch=False, interval=1),
            logger=None,
            timer=None,
        ),
        resume=resume,
    )
    runner.train()
    return notes


def test_moments_and_schedule_begin_anew_and_weights_go_on(tmp_path):
    notes = trained(tmp_path)
    assert notes.steps == [{n} for n in (1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 6, 7)]
    assert notes.rates[:5] == pytest.approx([0.01, 0.055, 0.1, 0.1, 0.0])
    assert notes.rates[5:] == pytest.approx([0.02, 0.1, 0.1, 0.075, 0.05, 0.025, 0.0])
    moved = [
        (a['head.weight'] - b['head.weight']).abs().max()
        for a, b in zip(notes.states, notes.states[1:], strict=False)
    ]
    # the first update of AdamW is one learning rate
    assert float(moved[4]) == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize('cut', [3, 5, 6, 9])
def test_resume_equals_never_having_stopped(cut, tmp_path):
    whole = trained(tmp_path / 'whole')
    folder = tmp_path / 'cut'
    trained_until(folder, cut)
    rest = trained(folder, resume=True)
    assert rest.rates == pytest.approx(whole.rates[cut:])
    assert rest.steps == whole.steps[cut:]
    assert_same_state(rest.states[-1], whole.states[-1])


def trained_until(folder, cut):
    """The same run, stopped after some iterations."""

    class Stop(Hook):
        priority = 'LOWEST'

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if runner.iter + 1 == cut:
                runner.train_loop.stop_training = True

    original = Notes.before_train
    stop = Stop()

    def before_train(self, runner):
        runner.register_hook(stop)
        original(self, runner)

    Notes.before_train = before_train
    try:
        return trained(folder)
    finally:
        Notes.before_train = original


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(first=12), 'first_iters must be at least 0 and below max_iters=12, got 12'),
        (dict(second=SECOND[:1]), r"second_scheduler must have the types .*'LinearLR', 'PolyLR'"),
    ],
)
def test_wrong_settings_say_so(options, message, tmp_path):
    with pytest.raises(UserError, match=message):
        trained(tmp_path, **options)


def test_the_second_phase_may_have_another_rate(tmp_path):
    notes = trained(tmp_path, optimizer=dict(lr=0.4))
    assert notes.rates[6] == pytest.approx(0.4)
    assert torch.isfinite(notes.states[-1]['head.weight']).all()
