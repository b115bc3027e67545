"""Mean teacher: what passes one threshold is a hard label, and nothing else happens."""

import pytest
import torch
from det3d_scenes import CLASSES, PerfectTeacher, batch_of, boxes_of, initialised, pointpillars

ROWS = [(6, 1, 2, 0.2), (9, -3, 2, 1.1), (7.5, 4, 1, -0.4), (4, -1.5, 0, 0.3)]
SCORES = {1: 0.9, 2: 0.5, 3: 0.5001, 4: 0.2}


@pytest.fixture
def teacher(host):
    """A mean teacher with scripted scores."""

    def build(**pseudo_filter):
        torch.manual_seed(0)
        made = host.MeanTeacher3D(
            detector=pointpillars(),
            class_names=CLASSES,
            student_view=dict(flip_prob=0.5),
            pseudo_filter=pseudo_filter or dict(type='mmdistill.ScoreFilter', score_thr=0.5),
        )
        initialised(made)
        made.teacher.predict = PerfectTeacher(lambda number, label: SCORES[number])
        return made

    return build


def labels_of(model, *scenes):
    """Pseudo labels of scenes ``(frame, rows, labeled)``."""
    return model.pseudo_labels(model.read_batch(*batch_of(*scenes)))


def test_boxes_above_the_threshold_are_hard_labels(teacher):
    model = teacher()
    target, suppressed = labels_of(model, (1, ROWS[:1], True), (2, ROWS, False))
    assert suppressed is None
    torch.testing.assert_close(target.lists()[0][0], boxes_of(ROWS[:1])[0])
    boxes, labels, weights = target.lists()[1]
    torch.testing.assert_close(boxes, boxes_of([ROWS[0], ROWS[2]])[0], atol=1e-4, rtol=0)
    assert labels.tolist() == [2, 1] and weights.tolist() == [1, 1]
    stats = model.pseudo_stats
    assert stats.kept.tolist() == [0, 1, 1] and stats.total.tolist() == [1, 1, 2]
    assert stats.true_positive is None


def test_thresholds_per_class(teacher):
    thresholds = dict(Pedestrian=0.1, Cyclist=0.6, Car=0.6)
    model = teacher(type='mmdistill.PerClassFilter', score_thr=thresholds, class_names=CLASSES)
    target, _ = labels_of(model, (2, ROWS, False))
    assert target.lists()[0][1].tolist() == [2, 0]


def test_weight_of_unlabelled_boxes_follows_the_ramp(teacher):
    """The buffer ``unsup_weight`` weights pseudo labels, not ground truth."""
    model = teacher()
    model.unsup_weight.fill_(0.25)
    target, _ = labels_of(model, (1, ROWS[:1], True), (2, ROWS, False))
    assert [each[2].tolist() for each in target.lists()] == [[1.0], [0.25, 0.25]]


def test_a_labelled_batch_is_supervised_training(teacher):
    model = teacher()
    inputs, samples = batch_of((1, ROWS, True), (2, ROWS[:2], True))
    found = model.loss(inputs, samples)
    assert model.teacher.predict.calls == 0
    scenes = model.read_batch(inputs, samples)
    batch, targets, _ = model.student_batch(scenes, scenes.boxes, None)
    expected = model.student.loss(batch, targets)
    for name, value in expected.items():
        assert torch.equal(torch.stack(found[name]), torch.stack(value))


def test_one_raw_view_is_all_the_teacher_sees(teacher):
    model, seen = teacher(), []
    read = model.teacher.predict.read
    model.teacher.predict.read = lambda points: seen.append(points) or read(points)
    inputs, samples = batch_of((1, ROWS, True), (2, ROWS, False))
    losses = model.loss(inputs, samples)
    assert len(seen) == 1 and torch.equal(seen[0], inputs['points'][1])
    assert all(bool(torch.stack(value).isfinite().all()) for value in losses.values())


def test_a_teacher_without_an_answer_leaves_background(teacher):
    model = teacher(type='mmdistill.ScoreFilter', score_thr=0.99)
    target, _ = labels_of(model, (2, ROWS, False))
    assert target.valid.sum() == 0
    losses = model.loss(*batch_of((2, ROWS, False), (3, [], False)))
    assert float(sum(losses['loss_bbox'])) == 0 and float(sum(losses['loss_cls'])) > 0


def test_unknown_keys_and_missing_filter(host):
    with pytest.raises(TypeError, match='pseudo_filter'):
        host.MeanTeacher3D(detector=pointpillars(), class_names=CLASSES, student_view={})
    with pytest.raises(TypeError, match='teacher_view'):
        host.MeanTeacher3D(
            detector=pointpillars(),
            class_names=CLASSES,
            student_view={},
            pseudo_filter=dict(type='mmdistill.ScoreFilter', score_thr=0.5),
            teacher_view={},
        )
