"""ThresholdRefreshHook: rank 0 decides, all ranks have it, nobody waits for ever."""

import pytest
import torch
from mmengine.hooks import Hook
from torch import nn

from mmdistill.core.errors import UserError
from mmdistill.core.filters import DualThresholdFilter
from mmdistill.core.hooks.teacher_update import bare_model
from mmdistill.core.hooks.threshold_refresh import ThresholdRefreshHook
from mmdistill.testing import (
    RankError,
    ToyDataset,
    ToyModel,
    ToySemiModel,
    assert_same_state,
    cpu_ranks,
    run_gloo,
    toy_runner,
)


class Store(nn.Module):
    """State of a changing size, sent through ``contents`` and ``replace``."""

    def __init__(self):
        super().__init__()
        self.items = []

    def contents(self):
        return list(self.items)

    def replace(self, contents):
        self.items = list(contents)


class Method(ToySemiModel):
    """Ranks bring scores of their own; only the mixture of all gives the thresholds."""

    refresh_buffers = ('filter', 'store', 'found')

    def __init__(self, fail=None):
        super().__init__()
        self.filter = DualThresholdFilter(['a'], scores=['cls'], decimals=None)
        self.store = Store()
        self.register_buffer('found', torch.zeros(0))
        self.fail, self.refreshed, self.asked_at = fail, [], []

    def collect_records(self, runner):
        self.asked_at.append((runner.iter, self.cur_iter))
        if self.fail == ('collect', runner.rank):
            raise ValueError('no records today')
        return [float(runner.rank + part) for part in (0.1, 0.2)]

    def refresh(self, records):
        if self.fail == ('refresh', 0):
            raise ValueError('no thresholds today')
        self.refreshed.append(sorted(records))
        self.filter.fit({('cls', 0): torch.tensor(records, dtype=torch.float64)})
        self.store.items += [len(self.refreshed)]
        self.found = torch.tensor(records)


def method_runner(folder, model, *hooks, max_iters=7, **settings):
    dataset = ToyDataset(branches=('sup', 'unsup_teacher', 'unsup_student'))
    return toy_runner(folder, model, max_iters, dataset, hooks=hooks, **settings)


@pytest.mark.parametrize(
    'settings, times',
    [
        (dict(interval=3), [0, 3, 6]),
        (dict(interval=3, begin=2), [2, 5]),
        (dict(interval=100, begin=6), [6]),
        (dict(interval=1), list(range(7))),
    ],
)
def test_when(settings, times, tmp_path):
    model = Method()
    refresh = dict(type='mmdistill.ThresholdRefreshHook', **settings)
    method_runner(tmp_path, model, refresh, dict(type='mmdistill.TeacherUpdateHook')).train()
    assert model.asked_at == [(time, time) for time in times]
    assert model.store.items == list(range(1, len(times) + 1))


def test_by_epoch(tmp_path):
    model = Method()
    refresh = dict(type='mmdistill.ThresholdRefreshHook', interval=2, by_epoch=True, begin=1)
    loader = dict(
        dataset=ToyDataset(size=8, branches=('sup',)),
        sampler=dict(type='mmdistill.NaturalSampler', infinite=False),
        collate_fn=dict(type='mmdistill.branch_collate'),
        batch_size=4,
    )
    method_runner(
        tmp_path,
        model,
        refresh,
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=5),
        train_dataloader=loader,
    ).train()
    assert [time for time, _ in model.asked_at] == [2, 6]  # epochs 1 and 3 of 2 iterations each


def test_one_rank_refreshes_from_its_own_records(tmp_path):
    model = Method()
    method_runner(tmp_path, model, dict(type='mmdistill.ThresholdRefreshHook', interval=50)).train()
    assert model.refreshed == [[0.1, 0.2]]


class After(ThresholdRefreshHook):
    """The step that methods replace."""

    def after_refresh(self, runner):
        bare_model(runner).store.items.append('after')


def _refresh_on_a_rank(rank, folder, fail):
    model = Method(fail)
    if rank == 1:
        model.filter.high.fill_(0.123)
        model.store.items = ['mine']
    runner = method_runner(folder, model, After(interval=4), max_iters=5, **cpu_ranks())
    runner.train()
    state = {name: value.numpy() for name, value in model.filter.state_dict().items()}
    return state, model.store.items, model.found.numpy(), model.refreshed


def test_two_ranks_agree(tmp_path):
    a, b = run_gloo(_refresh_on_a_rank, 2, str(tmp_path), None)
    assert_same_state(a[0], b[0])
    assert a[0]['high'] == pytest.approx(1.15) and a[0]['low'] == pytest.approx(0.15)
    assert a[1] == b[1] == [1, 'after', 2, 'after']
    assert_same_state(a[2], b[2])
    assert len(a[2]) == 4
    assert a[3] == [[0.1, 0.2, 1.1, 1.2]] * 2 and b[3] == []


@pytest.mark.parametrize(
    'fail, words',
    [
        (('collect', 1), 'no records today'),
        (('refresh', 0), 'no thresholds today'),
    ],
)
def test_a_rank_that_fails_stops_all(fail, words, tmp_path):
    with pytest.raises(RankError, match=words):
        run_gloo(_refresh_on_a_rank, 2, str(tmp_path), fail)


class Wrong(Method):
    refresh_buffers = ('filter', 'fitler')


def test_clear_errors(tmp_path):
    with pytest.raises(UserError, match='interval'):
        ThresholdRefreshHook(interval=0)
    with pytest.raises(UserError, match='begin'):
        ThresholdRefreshHook(interval=1, begin=-1)
    with pytest.raises(UserError, match="'fitler'.*Wrong"):
        method_runner(tmp_path, Wrong(), ThresholdRefreshHook(interval=1)).train()


def test_thresholds_are_in_the_checkpoint(tmp_path):
    class Watch(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            runner.watched = runner.model.state_dict()['filter.high'].clone()

    runner = method_runner(tmp_path, Method(), ThresholdRefreshHook(interval=5), Watch())
    runner.train()
    assert runner.watched.item() != pytest.approx(1.15)  # one rank has the pool 0.1, 0.2 only
    assert runner.watched.item() == pytest.approx(0.99)  # too small a pool: the initial one


def test_a_model_without_a_teacher_is_refused(tmp_path):
    hook = ThresholdRefreshHook(interval=2)
    runner = toy_runner(tmp_path, ToyModel(), 1, ToyDataset(), hooks=[hook])
    with pytest.raises(UserError, match='ThresholdRefreshHook needs a SemiModel.* is a ToyModel'):
        runner.train()
