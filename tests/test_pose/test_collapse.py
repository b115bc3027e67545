"""The collapse monitor measures heatmaps, and the alarm fires within its window."""

import itertools

import pytest
import torch
from mmengine.hooks import Hook
from pose_cases import CODECS, gaussians, random_joints

from mmdistill.core.errors import UserError
from mmdistill.core.hooks.teacher_update import bare_model
from mmdistill.pose.collapse import (
    CollapseAlarmHook,
    CollapseMonitor,
    CollapseStats,
    collapse_stats,
)
from mmdistill.pose.heatmaps import HeatmapGrid
from mmdistill.testing import ToyModel, captured_log, cpu_ranks, run_gloo, toy_runner

GRID = HeatmapGrid.from_codec(CODECS['msra-unbiased']())


def drawn(joints, height=1.0):
    """Heatmaps with peaks of a height."""
    return gaussians(joints, GRID) * height


def sums(*values):
    return CollapseStats(torch.tensor(values, dtype=torch.float64))


class WatchedModel(ToyModel):
    """Leaves stats of the given peaks, one per step; None leaves none."""

    def __init__(self, peaks=(0.5,), joints=10.0, **kwargs):
        super().__init__(**kwargs)
        self.collapse_monitor, self.collapse_stats = CollapseMonitor(), None
        self.peaks, self.joints = itertools.cycle(peaks), joints

    def forward(self, inputs, data_samples=None, mode='tensor'):
        """As a method would."""
        if mode == 'loss':
            peak, n = next(self.peaks), self.joints
            self.collapse_stats = (
                None if peak is None else sums(peak * n, n * (peak > 0.1), n, 3.0 * n, n)
            )
        return super().forward(inputs, data_samples, mode)


class Scalars(Hook):
    """Notes what was logged."""

    priority = 'LOWEST'

    def __init__(self):
        self.rows = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.rows.append(
            {
                name.removeprefix('train/pseudo/'): value.current()
                for name, value in runner.message_hub.log_scalars.items()
                if 'pseudo' in name
            }
        )


def watched(folder, peaks, max_iters=8, hooks=(), joints=10.0, settings=None, **alarm):
    alarm = dict(type='mmdistill.CollapseAlarmHook', interval=2, patience=2) | alarm
    return toy_runner(
        folder,
        WatchedModel(peaks, joints),
        max_iters,
        hooks=[alarm, *hooks],
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        **(settings or {}),
    )


def alarms(runner):
    with captured_log() as lines:
        runner.train()
    return [line for line in lines if 'collapsing' in line]


def test_peaks_and_shares_are_counted():
    joints = random_joints(3, 4, margin=40.0).div(4).round().mul(4)  # peaks on pixels
    heatmaps = drawn(joints)
    heatmaps[0, :3] *= 0.05
    found = CollapseMonitor()
    found.add(collapse_stats(heatmaps))
    values = found.take()
    assert values['teacher_peak'] == pytest.approx((9 + 3 * 0.05) / 12)
    assert values['alive_ratio'] == pytest.approx(9 / 12)
    assert 'disagreement_px' not in values
    valid = torch.ones(3, 4, dtype=torch.bool)
    valid[0] = False
    found.add(collapse_stats(heatmaps, valid=valid))
    assert found.take() == dict(teacher_peak=pytest.approx(1.0), alive_ratio=1.0)


@pytest.mark.parametrize('name', sorted(CODECS))
def test_disagreement_is_in_input_pixels(name):
    grid = HeatmapGrid.from_codec(CODECS[name]())
    joints = random_joints(4, margin=50.0)
    moved = joints + torch.tensor([6.0, 8.0])
    teacher, reviewer = gaussians(joints, grid), gaussians(moved, grid)
    reviewer[0] *= 0.01  # nothing to compare there
    monitor = CollapseMonitor()
    monitor.add(collapse_stats(teacher, reviewer, grid))
    rough = 1.5 if name == 'msra' else 0.05
    assert monitor.take()['disagreement_px'] == pytest.approx(10, abs=rough)
    monitor.add(collapse_stats(teacher, teacher, grid))
    assert monitor.take()['disagreement_px'] == 0


def test_empty_heatmaps_have_no_distance():
    nothing = torch.zeros(2, 3, 64, 48)
    stats = collapse_stats(nothing, nothing, GRID)
    assert stats.sums.tolist() == [0, 0, 6, 0, 0]
    with pytest.raises(ValueError, match='grid'):
        collapse_stats(nothing, nothing)


def test_sums_add_up_and_start_anew():
    monitor = CollapseMonitor()
    assert monitor.take() == {}
    for peak in (0.2, 0.6):
        monitor.add(sums(peak * 4, 4, 4, 0, 0))
    assert monitor.take()['teacher_peak'] == pytest.approx(0.4)
    assert monitor.take() == {}
    assert set(monitor.state_dict()) == {'sums', 'low_intervals'}


def test_scalars_are_logged_per_interval(tmp_path):
    seen = Scalars()
    watched(tmp_path, (0.2, 0.6, 0.8, 1.0), 4, hooks=[seen]).train()
    assert seen.rows[0] == {}
    assert seen.rows[1] == dict(
        teacher_peak=pytest.approx(0.4), alive_ratio=1.0, disagreement_px=3.0
    )
    assert seen.rows[3]['teacher_peak'] == pytest.approx(0.9)


def test_a_zero_teacher_is_detected_within_the_window(tmp_path):
    found = alarms(watched(tmp_path, (0.5, 0.5, 0, 0, 0, 0, 0.0, 0.0), 6))
    assert len(found) == 1 and found[0].startswith('WARNING')
    assert '0.000 on average' in found[0] and '0.0% of the joints' in found[0]


def test_the_alarm_is_repeated_but_not_for_every_interval(tmp_path):
    assert len(alarms(watched(tmp_path, (0.0,), 16))) == 4


def test_a_good_interval_resets_the_patience(tmp_path):
    assert alarms(watched(tmp_path, (0, 0, 0.5, 0.5), 16)) == []


@pytest.mark.parametrize(
    ('peaks', 'alarm', 'count'),
    [
        ((0.08,), dict(min_peak=0.05, min_share=0.05), 1),  # none above 0.1
        ((0.08,), dict(min_peak=0.05, min_share=0.0), 0),
        ((0.2,), dict(min_peak=0.3), 1),
        ((float('nan'),), {}, 1),
        ((None,), {}, 0),  # burn-in
        ((0.0,), dict(begin=4), 0),
        ((0.0,), dict(begin=1), 1),
    ],
)
def test_what_counts_as_low(peaks, alarm, count, tmp_path):
    assert (
        len(alarms(watched(tmp_path, peaks, 6 if alarm.get('begin') == 4 else 4, **alarm))) == count
    )


def test_it_can_stop_the_training(tmp_path):
    runner = watched(tmp_path, (0.0,), 20, stop=True)
    assert 'ends here' in alarms(runner)[0] and runner.iter == 4


def test_the_memory_survives_a_restart(tmp_path):
    """The first half ends within an interval, after a low one."""
    first = watched(tmp_path, (0.0,), 3)
    assert alarms(first) == []
    state = first.model.state_dict()
    second = watched(tmp_path, (0.0,), 8)
    second.model.load_state_dict(state)
    monitor = second.model.collapse_monitor
    assert int(monitor.low_intervals) == 1 and monitor.sums[2] == 10
    monitor.add(sums(0, 0, 10, 0, 0))
    with captured_log() as lines:
        CollapseAlarmHook(interval=2, patience=2)._look(second, monitor)
    assert sum('collapsing' in line for line in lines) == 1


def _train_on_a_rank(rank, folder):
    seen = Scalars()
    peak, joints = ((0.0, 1.0)[rank], (10.0, 30.0)[rank])
    runner = watched(folder, (peak,), 8, [seen], joints, cpu_ranks(), min_peak=0.8, stop=True)
    runner.train()
    return (
        seen.rows[-1]['teacher_peak'],
        runner.iter,
        int(bare_model(runner).collapse_monitor.low_intervals),
    )


def test_ranks_see_and_decide_the_same(tmp_path):
    assert run_gloo(_train_on_a_rank, 2, str(tmp_path)) == [(0.75, 4, 2)] * 2


def test_clear_errors(tmp_path):
    for wrong in (dict(interval=0), dict(patience=0), dict(min_peak=2), dict(begin=-1)):
        with pytest.raises(UserError, match=next(iter(wrong))):
            CollapseAlarmHook(**wrong)
    runner = toy_runner(tmp_path, hooks=[dict(type='mmdistill.CollapseAlarmHook')])
    with pytest.raises(UserError, match='collapse_monitor'):
        runner.train()
