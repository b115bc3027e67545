"""PseudoQualityHook: the logged numbers by hand, and warnings that say what to look at."""

import math

import pytest
import torch
from mmengine.hooks import Hook

from mmdistill.core.errors import UserError
from mmdistill.core.filters import DualThresholdFilter, PerClassFilter, ScoreFilter
from mmdistill.core.hooks.pseudo_quality import PseudoQualityHook, filter_thresholds
from mmdistill.core.hooks.teacher_update import bare_model
from mmdistill.core.pseudo import PseudoStats
from mmdistill.testing import (
    ToyDataset,
    ToyModel,
    ToySemiModel,
    captured_log,
    cpu_ranks,
    run_gloo,
    toy_runner,
)


def counts(*values):
    return torch.tensor(values)


class Reporting(ToySemiModel):
    """Leaves prescribed stats, one entry per step; None leaves nothing."""

    def __init__(self, script):
        super().__init__()
        self.script, self.class_names = list(script), ['Pedestrian', 'Car']

    def loss(self, inputs, data_samples, branch_index=None):
        losses = super().loss(inputs, data_samples, branch_index)
        self.pseudo_stats = self.script[self.cur_iter % len(self.script)]
        return losses


class Scalars(Hook):
    """The quality scalars after every iteration."""

    priority = 'LOWEST'

    def __init__(self):
        self.rows = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        found = runner.message_hub.log_scalars
        self.rows.append(
            {k.split('pseudo/')[1]: v.current() for k, v in found.items() if 'pseudo/' in k}
        )


def train(folder, model, iters, hooks=(), **settings):
    """Trains with the hook; returns the scalars by iteration and the log."""
    scalars = Scalars()
    update = dict(type='mmdistill.TeacherUpdateHook')
    quality = dict(type='mmdistill.PseudoQualityHook', **settings)
    dataset = ToyDataset(branches=('sup',))
    runner = toy_runner(folder, model, iters, dataset, hooks=[update, quality, scalars, *hooks])
    with captured_log() as lines:
        runner.train()
    return scalars.rows, [line for line in lines if line.startswith('WARNING')]


def test_numbers_by_hand(tmp_path):
    model = Reporting(
        [
            PseudoStats(counts(1, 2), counts(4, 4), counts(1, 1), counts(2, 3)),
            PseudoStats(counts(0, 3), counts(2, 6), counts(0, 2), counts(1, 4)),
        ]
    )
    rows, warnings = train(tmp_path, model, 4, interval=2)
    assert not rows[0]
    assert (
        rows[1]
        == rows[2]
        == rows[3]
        == {
            'kept_ratio': 6 / 16,
            'count_Pedestrian': 0.5,
            'count_Car': 2.5,
            'precision': 4 / 6,
            'recall': 4 / 10,
        }
    )
    assert not warnings and model.pseudo_stats is None


def test_steps_without_stats_do_not_dilute(tmp_path):
    """Counts are per step that had unlabelled data."""
    script = [None, PseudoStats(counts(2, 0), counts(4, 0)), None, None]
    rows, warnings = train(tmp_path, Reporting(script), 4, interval=4)
    assert rows[-1] == {'kept_ratio': 0.5, 'count_Pedestrian': 2, 'count_Car': 0}
    assert not warnings


def test_precision_counts_only_steps_with_hidden_truth(tmp_path):
    script = [
        PseudoStats(counts(5, 5), counts(9, 9)),
        PseudoStats(counts(1, 1), counts(9, 9), counts(1, 0), counts(1, 3)),
    ]
    rows, _ = train(tmp_path, Reporting(script), 2, interval=2)
    assert rows[-1]['precision'] == 0.5 and rows[-1]['recall'] == 0.25
    assert rows[-1]['kept_ratio'] == 12 / 36


def test_nothing_kept_has_no_precision(tmp_path):
    script = [PseudoStats(counts(0, 0), counts(3, 0), counts(0, 0), counts(0, 2))]
    rows, _ = train(tmp_path, Reporting(script), 1, interval=1)
    assert 'precision' not in rows[-1] and rows[-1]['recall'] == 0
    assert rows[-1]['kept_ratio'] == 0


def test_each_interval_starts_anew(tmp_path):
    script = [PseudoStats(counts(4, 0), counts(4, 0)), PseudoStats(counts(0, 1), counts(0, 4))]
    rows, _ = train(tmp_path, Reporting(script), 2, interval=1)
    assert [row['kept_ratio'] for row in rows] == [1.0, 0.25]


def test_no_scalar_is_taken_for_a_loss(tmp_path):
    """mmengine adds up every entry with 'loss' in its name."""
    model = Reporting([PseudoStats(counts(1, 1), counts(2, 2), counts(1, 0), counts(1, 1))])
    model.filter = DualThresholdFilter(model.class_names)
    rows, _ = train(tmp_path, model, 1, interval=1)
    assert not any('loss' in name for name in rows[-1])
    assert math.isclose(rows[-1]['threshold_cls_Car'], 0.99, rel_tol=1e-6)
    assert math.isclose(rows[-1]['threshold_high_view_iou_Pedestrian'], 0.93, rel_tol=1e-6)


def test_warns_when_nothing_is_kept_and_shows_scores_beside_thresholds(tmp_path):
    scores = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
    model = Reporting([PseudoStats(counts(0, 0), counts(3, 2), scores=scores)])
    model.filter = PerClassFilter(dict(Pedestrian=0.75, Car=0.9), model.class_names)
    _, warnings = train(tmp_path, model, 9, interval=1, patience=4)
    assert len(warnings) == 2  # at iterations 4 and 8
    assert 'no pseudo label was kept for 4 iterations' in warnings[0]
    assert '0% 0.10, 25% 0.20, 50% 0.30' in warnings[0] and '100% 0.50' in warnings[0]
    assert 'cls Pedestrian 0.75, cls Car 0.90' in warnings[0]


def test_a_kept_label_ends_the_waiting(tmp_path):
    empty = PseudoStats(counts(0, 0), counts(1, 1))
    script = [empty, empty, empty, PseudoStats(counts(0, 1), counts(1, 1))]
    _, warnings = train(tmp_path, Reporting(script), 12, interval=1, patience=4)
    assert not warnings


def test_warns_when_the_teacher_predicts_nothing(tmp_path):
    model = Reporting([PseudoStats(counts(0, 0), counts(0, 0), scores=torch.zeros(0))])
    _, warnings = train(tmp_path, model, 2, interval=2, patience=2)
    assert 'predicts nothing' in warnings[0] and 'thresholds: unknown' in warnings[0]


def test_warns_when_there_are_no_stats_at_all(tmp_path):
    _, warnings = train(tmp_path, Reporting([None]), 6, interval=2, patience=6)
    assert len(warnings) == 1 and 'no pseudo_stats for 6 iterations' in warnings[0]


def test_thresholds_of_every_filter():
    names = ['a', 'b']
    assert filter_thresholds(None, names) == []
    one = filter_thresholds(ScoreFilter(0.5), names)
    assert one == [('cls', 'a', 0.5), ('cls', 'b', 0.5)]
    dual = filter_thresholds(DualThresholdFilter(names, scores=['cls'], init=dict(cls=0.5)), names)
    assert dual == one + [('high_cls', 'a', 0.5), ('high_cls', 'b', 0.5)]


def test_errors():
    for name in ('interval', 'patience'):
        with pytest.raises(UserError, match=name):
            PseudoQualityHook(**{name: 0})


def _quality_on_a_rank(rank, folder):
    scalars = Scalars()
    kept = [counts(1, 0), counts(0, 3)][rank]
    silent = PseudoStats(kept, counts(2, 4)) if rank == 0 else None
    model = Reporting([PseudoStats(kept, counts(2, 4)), silent])
    quality = dict(type='mmdistill.PseudoQualityHook', interval=2)
    update = dict(type='mmdistill.TeacherUpdateHook')
    dataset = ToyDataset(branches=('sup',))
    runner = toy_runner(folder, model, 2, dataset, hooks=[update, quality, scalars], **cpu_ranks())
    runner.train()
    assert bare_model(runner) is model
    return scalars.rows[-1]


def test_two_ranks_are_added_up(tmp_path):
    """A rank may have had no unlabelled sample in a step."""
    first, second = run_gloo(_quality_on_a_rank, 2, str(tmp_path))
    assert first == {'kept_ratio': 5 / 18, 'count_Pedestrian': 1.0, 'count_Car': 1.5}
    assert second == {}


def test_a_model_without_a_teacher_is_refused(tmp_path):
    hook = PseudoQualityHook()
    runner = toy_runner(tmp_path, ToyModel(), 1, ToyDataset(), hooks=[hook])
    with pytest.raises(UserError, match='PseudoQualityHook needs a SemiModel.* is a ToyModel'):
        runner.train()
