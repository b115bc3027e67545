"""The filter of 3DIoUMatch: several thresholds, the predicted overlap, the lower half."""

import pytest
import torch
from det3d_scenes import CLASSES, PerfectTeacher, batch_of, boxes_of, initialised, pointpillars

from mmdistill.core.errors import UserError
from mmdistill.core.filters import NamedScoresFilter
from mmdistill.det3d.box_batch import BoxBatch
from mmdistill.det3d.lower_half import upper_half
from mmdistill.det3d.score_providers import build_score

ROWS = [(6, 1, 2, 0.2), (9, -3, 2, 1.1), (7.5, 4, 1, -0.4), (4, -1.5, 0, 0.3)]
THRESHOLDS = dict(objectness=0.4, predicted_iou=dict(Pedestrian=0.25, Cyclist=0.25, Car=0.5))


class TwoStageTeacher(PerfectTeacher):
    """A perfect teacher that also tells its proposals' scores."""

    def __init__(self, score, objectness):
        super().__init__(score)
        self.objectness = objectness

    def read(self, points):
        found = super().read(points)
        marked = points[points[:, 3] > 15]
        numbers = sorted({int(code) // 16 for code in marked[:, 3].round()})
        scores = [self.objectness[key // 3] for key in numbers]
        found.roi_scores_3d = points.new_tensor(scores)
        return found


def teacher(host, predicted, objectness=None, **changes):
    """A method with scripted scores by object number."""
    cfg = dict(
        detector=pointpillars(),
        class_names=CLASSES,
        student_view=dict(flip_prob=0.5),
        pseudo_filter=dict(
            type='mmdistill.NamedScoresFilter', score_thr=THRESHOLDS, class_names=CLASSES
        ),
    )
    torch.manual_seed(0)
    made = initialised(host.MeanTeacher3D(**{**cfg, **changes}))
    made.teacher.predict = PerfectTeacher(lambda number, label: predicted[number])
    if objectness is not None:
        made.teacher.predict = TwoStageTeacher(lambda number, label: predicted[number], objectness)
    return made


def found_labels(model, rows=ROWS):
    """Labels of the pseudo boxes of one unlabelled scene."""
    target, suppressed = model.pseudo_labels(model.read_batch(*batch_of((2, rows, False))))
    assert suppressed is None
    return target.lists()[0]


# ------------------------------------------------------------------ filter


def test_every_score_must_pass_its_threshold():
    made = NamedScoresFilter(THRESHOLDS, CLASSES)
    assert made.score_names == ['objectness', 'predicted_iou']
    assert made.threshold.tolist() == [[pytest.approx(0.4)] * 3, [0.25, 0.25, 0.5]]
    scores = torch.tensor([[0.5, 0.3], [0.5, 0.3], [0.4, 0.9], [0.41, 0.51], [0.41, 0.5]])
    labels = torch.tensor([0, 2, 1, 2, 2])
    assert made(scores, labels).tolist() == [True, False, False, True, False]


@pytest.mark.parametrize(
    ('thresholds', 'message'),
    [
        ({}, 'at least one score'),
        (dict(predicted_iou=dict(Car=0.5)), r'score_thr.predicted_iou must name each class once'),
        (dict(cls=dict(Car=1, Cyclist=1, Tram=1)), r"score_thr.cls .*'Tram'"),
    ],
)
def test_thresholds_name_each_class(thresholds, message):
    with pytest.raises(UserError, match=message):
        NamedScoresFilter(thresholds, CLASSES)


def test_predicted_iou_is_the_second_stages_final_score():
    boxes, labels = boxes_of(ROWS)
    found = BoxBatch.from_lists([boxes], [labels], [torch.tensor([0.9, 0.5, 0.1, 0.7])])
    provider = build_score('predicted_iou')
    extra = dict(roi_scores_3d=torch.rand(1, 4))
    assert torch.equal(provider(found, found, extra), found.weights)
    with pytest.raises(UserError, match='two-stage detector'):
        provider(found, found, {})


# ------------------------------------------------------------------ mean teacher with it


def test_thresholds_of_both_stages(host):
    """Cars need an overlap of a half, others of a quarter; all a first-stage score of 0.4."""
    predicted = {1: 0.6, 2: 0.45, 3: 0.3, 4: 0.9}
    objectness = {1: 0.5, 2: 0.9, 3: 0.41, 4: 0.39}
    model = teacher(host, predicted, objectness)
    boxes, labels, weights = found_labels(model)
    torch.testing.assert_close(boxes, boxes_of([ROWS[0], ROWS[2]])[0], atol=1e-4, rtol=0)
    assert labels.tolist() == [2, 1] and weights.tolist() == [1, 1]
    assert model.pseudo_stats.kept.tolist() == [0, 1, 1]
    # reported is the first score, the proposals'
    assert sorted(round(float(s), 2) for s in model.pseudo_stats.scores) == [0.39, 0.41, 0.5, 0.9]


def test_class_scores_alone_for_a_single_stage(host):
    predicted = {1: 0.6, 2: 0.45, 3: 0.3, 4: 0.9}
    cfg = dict(type='mmdistill.NamedScoresFilter', score_thr=dict(cls=0.4), class_names=CLASSES)
    named = found_labels(teacher(host, predicted, pseudo_filter=cfg))
    plain = dict(type='mmdistill.ScoreFilter', score_thr=0.4)
    for one, two in zip(named, found_labels(teacher(host, predicted, pseudo_filter=plain)),
                        strict=True):  # fmt: skip
        assert torch.equal(one, two)
    assert named[1].tolist().count(2) == 2 and len(named[1]) == 3
    with pytest.raises(UserError, match="'objectness' needs .*roi_scores_3d"):
        found_labels(teacher(host, predicted))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            dict(
                pseudo_filter=dict(
                    type='mmdistill.NamedScoresFilter',
                    score_thr=dict(cls=0.4, view_iou=0.5),
                    class_names=CLASSES,
                )
            ),
            "'view_iou' needs a second view.*HSSDA",
        ),
        (
            dict(
                pseudo_filter=dict(
                    type='mmdistill.NamedScoresFilter',
                    score_thr=dict(iou=0.4),
                    class_names=CLASSES,
                )
            ),
            "unknown score 'iou'",
        ),
        (dict(lower_half=0.0), r'lower_half must lie in \(0, 1\]'),
    ],
)
def test_scores_it_does_not_have_are_refused(host, changes, message):
    with pytest.raises(UserError, match=message):
        teacher(host, {}, **changes)


# ------------------------------------------------------------------ lower half


def test_the_upper_half_of_each_cluster_stays():
    """Five copies of a car, a lone car, two pedestrians; scores name their order."""
    car, far, walker = (10, 0, 2, 0.3), (20, 5, 2, 0.3), (5, 3, 0, 0.1)
    rows = [(x + 0.05 * k, y, label, yaw) for k, (x, y, label, yaw) in enumerate([car] * 5)]
    rows += [far, walker, walker]
    boxes, labels = boxes_of(rows)
    scores = torch.tensor([0.2, 0.9, 0.5, 0.8, 0.1, 0.05, 0.3, 0.4])
    kept = upper_half(boxes, labels, scores, 0.5)
    assert kept.tolist() == [False, True, True, True, False, True, False, True]
    order = torch.tensor([5, 3, 0, 7, 6, 2, 1, 4])
    assert torch.equal(upper_half(boxes[order], labels[order], scores[order], 0.5), kept[order])
    assert upper_half(boxes, labels, scores, 1.0).tolist()[5] is True
    assert upper_half(boxes[:0], labels[:0], scores[:0], 0.5).shape == (0,)


def test_other_classes_and_boxes_that_hardly_touch_do_not_compete():
    boxes, _ = boxes_of([(10, 0, 2, 0.0), (10, 0, 2, 0.0), (13, 0, 2, 0.0)])
    scores = torch.tensor([0.9, 0.8, 0.7])
    assert upper_half(boxes, torch.tensor([2, 1, 2]), scores, 0.3).all()
    assert upper_half(boxes, torch.tensor([2, 2, 2]), scores, 0.3).tolist() == [True, False, True]


def test_lower_half_among_pseudo_labels(host):
    """Boxes that failed the filter do not compete; other scenes neither."""
    rows = [(6, 1, 2, 0.2), (6.1, 1, 2, 0.2), (6.2, 1, 2, 0.2), (12, -4, 1, 0.0)]
    predicted = {1: 0.7, 2: 0.9, 3: 0.3, 4: 0.8}
    cfg = dict(type='mmdistill.ScoreFilter', score_thr=0.5)
    for lower_half, count in ((None, 3), (0.5, 2)):
        model = teacher(host, predicted, pseudo_filter=cfg, lower_half=lower_half)
        scenes = model.read_batch(*batch_of((2, rows, False), (3, rows[:1], False)))
        target, _ = model.pseudo_labels(scenes)
        first, second = target.lists()
        assert len(first[0]) == count and len(second[0]) == 1
        if lower_half:
            cars = first[0][first[1] == 2]
            torch.testing.assert_close(cars, boxes_of(rows[1:2])[0], atol=1e-4, rtol=0)
        losses = model.loss(*batch_of((1, rows[:1], True), (2, rows, False)))
        assert all(bool(torch.stack(value).isfinite().all()) for value in losses.values())
