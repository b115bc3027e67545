"""Scores of proposals reach the final boxes, and the boxes before the last NMS can be had."""

import pytest
import torch
from det3d_scenes import batch_of
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.structures import InstanceData
from pv_rcnn_cases import ROWS, features, hssda_pv_rcnn, proposals, twins
from torch import nn

from mmdistill.core.errors import UserError
from mmdistill.det3d.boxes import bev_iou
from mmdistill.det3d.cpu_ops import install_cpu_ops, remove_cpu_ops
from mmdistill.det3d.objectness import ObjectnessRoIHead, UnsuppressedBBoxHead

SCENES = [ROWS, ROWS[2:4]]


@pytest.fixture(scope='module', autouse=True)
def operators(host):
    """The CPU operators, for this file alone."""
    install_cpu_ops()
    yield
    remove_cpu_ops()


@pytest.fixture(scope='module')
def heads():
    """RoI heads of the stock and the soft detector, equal weights, evaluating."""
    return [model.roi_head.eval() for model in twins()]


@pytest.fixture
def still(heads):
    """The soft head whose boxes are its proposals: no residual is predicted."""
    head = heads[1]
    last = head.bbox_head.reg_layer[-1]
    before = last.weight.detach().clone(), last.bias.detach().clone()
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    yield head
    with torch.no_grad():
        last.weight.copy_(before[0])
        last.bias.copy_(before[1])


def predict(head, scenes=SCENES, **changes):
    """Results and the proposals they came from."""
    rois = [proposals(rows, seed) for seed, rows in enumerate(scenes)]
    samples = [Det3DDataSample(metainfo=dict(box_type_3d=LiDARInstance3DBoxes)) for _ in scenes]
    before = head.test_cfg
    head.test_cfg = type(before)({**before, **changes})
    with torch.no_grad():
        results = head.predict(features(head, scenes), rois, samples)
    head.test_cfg = before
    return results, rois


def test_boxes_scores_and_labels_are_the_hosts(heads):
    expected, _ = predict(heads[0])
    for changes in ({}, dict(keep_before_nms=True)):
        found, _ = predict(heads[1], **changes)
        for ours, theirs in zip(found, expected, strict=True):
            assert len(ours) == len(theirs) > 3
            assert torch.equal(ours.bboxes_3d.tensor, theirs.bboxes_3d.tensor)
            assert torch.equal(ours.scores_3d, theirs.scores_3d)
            assert torch.equal(ours.labels_3d, theirs.labels_3d)


def test_a_box_has_the_score_of_its_own_proposal(still):
    """Unmoved boxes name their proposal; NMS dropped most of them and changed the order."""
    results, rois = predict(still)
    for result, given in zip(results, rois, strict=True):
        same = (result.bboxes_3d.tensor[:, None, :6] - given.bboxes_3d.tensor[:, :6]).abs().sum(-1)
        source = same.argmin(1)
        assert float(same.amin(1).max()) < 1e-4
        assert 3 < len(source) < len(given) and len(source.unique()) == len(source)
        assert source.tolist() != sorted(source.tolist())
        assert torch.equal(result.roi_scores_3d, given.scores_3d[source])
        assert torch.equal(result.labels_3d, given.labels_3d[source])


def test_boxes_before_the_last_suppression(still):
    """All proposals above the score threshold, with the fields of the final boxes."""
    everything, rois = predict(still, score_thr=0.0, keep_before_nms=True)
    scores = torch.cat([each.metainfo['before_nms'].scores_3d for each in everything])
    middle = float(scores.median())
    results, _ = predict(still, keep_before_nms=True, score_thr=middle)
    plain, _ = predict(still, score_thr=middle)
    for result, alone, total, given in zip(results, plain, everything, rois, strict=True):
        before = result.metainfo['before_nms']
        assert 'before_nms' not in alone.metainfo
        assert len(total.metainfo['before_nms']) == len(given)
        assert len(result) < len(before) < len(given)
        assert float(before.scores_3d.min()) >= middle
        assert int((total.metainfo['before_nms'].scores_3d >= middle).sum()) == len(before)
        # every suppressed box overlaps one that stayed, and those that stayed are among them
        overlap = bev_iou(before.bboxes_3d.tensor, result.bboxes_3d.tensor)
        assert bool((overlap.amax(1) > 0.1).all())
        stayed = torch.isin(before.roi_scores_3d, result.roi_scores_3d)
        assert int(stayed.sum()) == len(result)


def test_no_box_above_the_threshold(heads):
    results, _ = predict(heads[1], score_thr=1.0, keep_before_nms=True)
    for result in results:
        for found in (result, result.metainfo['before_nms']):
            assert len(found.bboxes_3d) == len(found.scores_3d) == len(found.roi_scores_3d) == 0
            assert found.labels_3d.dtype == torch.long


def test_heads_stand_alone(heads):
    """Without soft weights too: subclasses of the host's heads with its parameters."""
    assert isinstance(heads[1], ObjectnessRoIHead)
    assert isinstance(heads[1].bbox_head, UnsuppressedBBoxHead)
    assert set(heads[0].state_dict()) == set(heads[1].state_dict())


# ------------------------------------------------------------------ as a score of HSSDA


@pytest.fixture(scope='module')
def model():
    """HSSDA on the tiny PV-RCNN."""
    return hssda_pv_rcnn(teacher_test_cfg=dict(score_thr=0.3)).eval()


def scenes_of(model):
    """Two unlabelled scenes of different sizes."""
    return model.read_batch(*batch_of((0, ROWS, False), (1, ROWS[:2], False)))


def test_objectness_is_the_first_stages_largest_probability(model):
    """Read at the anchor head's own output: sigmoid of the maximal class logit of an anchor."""
    logits = []
    handle = model.teacher.rpn_head.register_forward_hook(
        lambda module, given, out: logits.append(out[0][0])
    )
    scenes = scenes_of(model)
    weak, extra = model.teacher_predict(scenes.points)
    handle.remove()
    assert extra['roi_scores_3d'].shape == weak.valid.shape and weak.valid.any()
    for row, (scores, valid) in enumerate(zip(extra['roi_scores_3d'], weak.valid, strict=True)):
        maps = logits[0][row].permute(1, 2, 0).reshape(-1, 3)
        best = maps.amax(1).sigmoid()
        assert bool((scores[valid, None] == best).any(1).all())
        assert bool((scores[~valid] == 0).all())


def test_three_scores_judge_a_box(model):
    scenes = scenes_of(model)
    weak, _, scores = model.judge(scenes.points, scenes.frames, purpose=1)
    _, extra = model.teacher_predict(scenes.points)
    assert model.score_names == ['cls', 'objectness', 'view_iou']
    assert torch.equal(scores[..., 0], weak.weights)
    assert torch.equal(scores[..., 1], extra['roi_scores_3d'])
    assert bool(((scores >= 0) & (scores <= 1)).all())


def test_boxes_before_nms_reach_the_low_level(model):
    scenes = scenes_of(model)
    weak, extra = model.teacher_predict(scenes.points)
    before = extra['before_nms']
    assert bool((before.valid.sum(1) > weak.valid.sum(1)).all())
    assert bool((before.weights[before.valid] >= 0.3).all())
    plain = hssda_pv_rcnn(teacher_test_cfg=dict(score_thr=0.3), low=dict(before_nms=False)).eval()
    alone, extra = plain.teacher_predict(scenes.points)
    assert 'before_nms' not in extra and torch.equal(alone.boxes, weak.boxes)


def test_a_detector_without_it_is_a_clear_error(host, hssda):
    made = hssda(scores=('cls', 'objectness', 'view_iou'))
    with pytest.raises(UserError, match="'objectness'.*two-stage.*'cls', 'view_iou'"):
        made.loss(*batch_of((1, ROWS, False)))


def test_proposals_are_not_changed(heads):
    results, rois = predict(heads[1])
    again = proposals(ROWS, 0)
    assert isinstance(results[0], InstanceData)
    assert torch.equal(rois[0].labels_3d, again.labels_3d)
    assert torch.equal(rois[0].bboxes_3d.tensor, again.bboxes_3d.tensor)
