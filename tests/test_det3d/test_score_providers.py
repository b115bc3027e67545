"""The scores of a box: what each measures, and how a wrong choice is reported."""

import pytest
import torch
from det3d_scenes import boxes_of

from mmdistill.core.errors import UserError
from mmdistill.det3d.box_batch import BoxBatch
from mmdistill.det3d.score_providers import ClsScore, RoIObjectness, ViewIoU, build_score


def batch(rows, scores=None):
    """One scene with the boxes of ``rows``."""
    boxes, labels = boxes_of(rows)
    return BoxBatch.from_lists(
        [boxes], [labels], None if scores is None else [torch.tensor(scores)]
    )


def test_cls_is_the_confidence():
    boxes = batch([(5, 0), (9, 4)], [0.3, 0.8])
    assert ClsScore()(boxes, boxes, {}).tolist() == [pytest.approx([0.3, 0.8])]


def test_view_iou_is_the_best_overlap_of_any_class():
    """A car of 3.9 m moved by 1.3 m along itself: overlap (3.9 - 1.3) / (3.9 + 1.3) = 0.5."""
    weak = batch([(10, 0, 2, 0.0), (20, 5, 2, 0.0), (15, -8, 0, 0.0)])
    other = batch([(11.3, 0, 2, 0.0), (12.6, 0, 2, 0.0), (15, -8, 1, 0.0)])
    scores = ViewIoU()(weak, other, {})[0]
    assert float(scores[0]) == pytest.approx(0.5, abs=1e-6)
    assert float(scores[1]) == 0
    # a pedestrian inside a cyclist of the other view counts by overlap alone
    assert float(scores[2]) == pytest.approx(0.8 / 1.76, abs=1e-6)


def test_space_of_the_overlap():
    weak = batch([(10, 0, 2, 0.0)])
    raised = weak.boxes.clone()
    raised[..., 2] += 0.78
    other = weak.with_boxes(raised)
    assert float(ViewIoU('bev')(weak, other, {})) == pytest.approx(1)
    assert float(ViewIoU('3d')(weak, other, {})) == pytest.approx(1 / 3, abs=1e-5)


def test_padding_and_empty_views_score_zero():
    rows = [(10, 0, 2, 0.0), (20, 5, 2, 0.0)]
    boxes, labels = boxes_of(rows)
    weak = BoxBatch.from_lists([boxes, boxes[:1]], [labels, labels[:1]])
    shown = weak.keep(torch.tensor([[True, False], [True, True]]))
    scores = ViewIoU()(weak, shown, {})
    assert scores.tolist() == [pytest.approx([1, 0]), pytest.approx([1, 0])]
    hidden = ViewIoU()(shown, weak, {})
    assert hidden.tolist() == [pytest.approx([1, 0]), pytest.approx([1, 0])]
    nothing = BoxBatch.empty(2, boxes)
    assert torch.equal(ViewIoU()(weak, nothing, {}), torch.zeros(2, 2))
    assert ViewIoU()(nothing, weak, {}).shape == (2, 0)


def test_objectness_needs_a_two_stage_detector():
    boxes = batch([(5, 0)])
    scores = torch.tensor([[0.7]])
    assert RoIObjectness()(boxes, boxes, dict(roi_scores_3d=scores)) is scores
    with pytest.raises(UserError, match="scores=\\('cls', 'view_iou'\\)"):
        RoIObjectness()(boxes, boxes, {})


def test_names_and_configs():
    assert isinstance(build_score('cls'), ClsScore)
    assert isinstance(build_score('objectness'), RoIObjectness)
    built = build_score(dict(type='mmdistill.ViewIoU', space='3d'))
    assert isinstance(built, ViewIoU) and built.iou.__name__ == 'iou_3d'
    assert [build_score(name).name for name in ('cls', 'objectness', 'view_iou')] == [
        'cls',
        'objectness',
        'view_iou',
    ]
    with pytest.raises(UserError, match="'iou'.*view_iou"):
        build_score('iou')
    with pytest.raises(UserError, match="'bev' or '3d'"):
        ViewIoU('2d')
