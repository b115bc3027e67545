"""Soft-weighted PV-RCNN heads: the stock heads at weight 1, and a weight is its box's own.

The reference assigns RoIs by the exact 3D overlap of :mod:`mmdistill.det3d.boxes` and sums the
losses RoI by RoI in float64, from the definition.
"""

import math

import pytest
import torch
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from pv_rcnn_cases import ROIS, ROWS, WEIGHTS, build, features, proposals, truth, twins
from pv_rcnn_cfg import pv_rcnn
from torch import nn

from mmdistill.core.errors import UserError
from mmdistill.det3d.boxes import iou_3d
from mmdistill.det3d.cpu_ops import install_cpu_ops, remove_cpu_ops
from mmdistill.det3d.detectors import soft_detector

SCENES = [ROWS, ROWS[2:4], ROWS[1:2]]
FOREGROUND = 0.55


@pytest.fixture(scope='module')
def pair(host):
    """Stock and soft detector, made once; their state is never changed here."""
    install_cpu_ops()
    yield twins()
    remove_cpu_ops()


@pytest.fixture(scope='module')
def following(pair):
    """A soft detector whose corner and keypoint losses follow the weights too."""
    return twins(weight_corner=True, weight_keypoints=True)[1].roi_head


def samples_of(scenes, weights=None):
    """Data samples with ground truth."""
    made = []
    for number, rows in enumerate(scenes):
        sample = Det3DDataSample(metainfo=dict(box_type_3d=LiDARInstance3DBoxes))
        sample.gt_instances_3d = truth(rows, None if weights is None else weights[number])
        made.append(sample)
    return made


def losses(head, scenes, weights=None, watch=None):
    """Second-stage losses; the same RoIs, dropout and statistics in every call.

    ``watch`` is called with the RoIs and the head's answers.
    """
    seen = {}
    rois = [proposals(rows, seed) for seed, rows in enumerate(scenes)]
    head.bbox_sampler.num, head.bbox_sampler.pos_fraction = ROIS, 1.0  # every RoI, once
    handles = [
        head.bbox_roi_extractor.register_forward_hook(
            lambda module, given, out: seen.update(rois=given[3])
        ),
        head.bbox_head.register_forward_hook(
            lambda module, given, out: seen.update(scores=out[0], deltas=out[1])
        ),
    ]
    torch.manual_seed(5)
    samples = samples_of(scenes, weights)
    found = head.loss(features(head, scenes), rois, samples)
    for handle in handles:
        handle.remove()
    if watch is not None:
        watch(samples=samples, **seen)
    return found


def owners(rois, scenes, labels):
    """(R,) (scene, box) that each RoI learns, None for background, and its best overlap."""
    found = []
    for roi, label in zip(rois, labels, strict=True):
        instances = truth(scenes[int(roi[0])])
        own = (instances.labels_3d == label).nonzero().squeeze(1)
        overlap = iou_3d(roi[None, 1:].double(), instances.bboxes_3d.tensor[own].double())[0]
        best = float(overlap.max()) if len(own) else 0.0
        box = int(own[overlap.argmax()]) if best >= FOREGROUND else None
        found.append((int(roi[0]), box, best))
    return found


def roi_labels(rois, scenes):
    """Class of each RoI, looked up among the proposals."""
    known = [proposals(rows, seed) for seed, rows in enumerate(scenes)]
    labels = []
    for roi in rois:
        scene = known[int(roi[0])]
        row = (scene.bboxes_3d.tensor - roi[1:]).abs().sum(1).argmin()
        labels.append(int(scene.labels_3d[row]))
    return labels


def residual(roi, box):
    """Seven numbers that the second stage learns: the box in the RoI's own frame, a half turn."""
    x, y, z, dx, dy, dz, yaw = roi.tolist()
    gx, gy, gz, gdx, gdy, gdz, gyaw = box.tolist()
    cos, sin = math.cos(yaw), math.sin(yaw)
    ahead = cos * (gx - x) + sin * (gy - y)
    aside = -sin * (gx - x) + cos * (gy - y)
    diagonal = math.hypot(dx, dy)
    turn = (gyaw - yaw + math.pi / 2) % math.pi - math.pi / 2
    return [
        ahead / diagonal,
        aside / diagonal,
        (gz + gdz / 2 - z - dz / 2) / dz,
        math.log(gdx / dx),
        math.log(gdy / dy),
        math.log(gdz / dz),
        turn,
    ]


def reference(rois, scores, deltas, scenes, weights):
    """Classification and regression loss by loops over RoIs."""
    labels = roi_labels(rois, scenes)
    cls = box = torch.zeros((), dtype=torch.float64)
    foreground = 0
    for row, (scene, owner, overlap) in enumerate(owners(rois, scenes, labels)):
        weight = 1.0 if owner is None else weights[scene][owner]
        quality = min(max(2 * overlap - 0.5, 0.0), 1.0)
        p = scores[row, 0].double().sigmoid()
        cls = cls - weight * (quality * p.log() + (1 - quality) * (1 - p).log())
        if owner is not None:
            foreground += 1
            target = residual(rois[row, 1:].double(), truth(scenes[scene]).bboxes_3d.tensor[owner])
            gap = (deltas[row].double() - torch.tensor(target, dtype=torch.float64)).abs()
            beta = 1 / 9
            box = box + weight * torch.where(gap < beta, gap**2 / (2 * beta), gap - beta / 2).sum()
    return dict(loss_cls=cls / len(rois), loss_bbox=box / foreground), foreground


# ------------------------------------------------------------------ equality with the host


@pytest.mark.parametrize('weights', [None, [[1.0] * len(rows) for rows in SCENES]])
def test_weight_one_is_the_stock_head_bit_exactly(pair, following, weights):
    stock, soft = pair[0].roi_head, pair[1].roi_head
    expected = losses(stock, SCENES)
    assert set(expected) == {'loss_semantic', 'loss_cls', 'loss_bbox', 'loss_corner'}
    for head in (soft, following):
        found = losses(head, SCENES, weights)
        assert set(found) == set(expected)
        for name, value in expected.items():
            assert value > 0 and torch.equal(found[name], value), name


def test_first_stage_at_weight_one_is_the_stock_head_bit_exactly(pair):
    generator = torch.Generator().manual_seed(0)
    maps = [[torch.randn(2, each, 64, 64, generator=generator)] for each in (18, 42, 12)]
    metas = [{}, {}]
    plain = [truth(ROWS), truth([])]
    weighted = [truth(ROWS, [1.0] * len(ROWS)), truth([])]
    expected = pair[0].rpn_head.loss_by_feat(*maps, plain, metas, None)
    found = pair[1].rpn_head.loss_by_feat(*maps, weighted, metas, None)
    assert set(found) == {'loss_rpn_cls', 'loss_rpn_bbox', 'loss_rpn_dir'}
    for name, value in expected.items():
        assert torch.equal(torch.stack(found[name]), torch.stack(value)), name
    assert float(expected['loss_rpn_bbox'][0]) > 0


# ------------------------------------------------------------------ a weight is its box's own


def test_losses_equal_the_loops(pair):
    weights = [WEIGHTS, [0.4, 1.0], [0.6]]
    seen = {}
    found = losses(pair[1].roi_head, SCENES, weights, seen.update)
    expected, foreground = reference(
        *(seen[name].detach() for name in ('rois', 'scores', 'deltas')), SCENES, weights
    )
    assert 20 < foreground < 2 * ROIS
    for name, value in expected.items():
        assert float(found[name].detach()) == pytest.approx(float(value), rel=1e-5), name


def test_doubling_a_weight_doubles_the_terms_of_its_box(pair):
    """Each loss is linear in each weight, and the slope is what the box's own RoIs add."""
    head, seen = pair[1].roi_head, {}
    weights = torch.tensor(WEIGHTS) / 2
    first = losses(head, SCENES[:1], [weights.requires_grad_()], seen.update)
    parts = [seen[name].detach() for name in ('rois', 'scores', 'deltas')]
    none, _ = reference(*parts, SCENES[:1], [[0.0] * len(ROWS)])
    for name in ('loss_cls', 'loss_bbox'):
        (slope,) = torch.autograd.grad(first[name], weights, retain_graph=True)
        for box in range(len(ROWS)):
            own, _ = reference(*parts, SCENES[:1], [[float(k == box) for k in range(len(ROWS))]])
            term = float(own[name] - none[name])
            assert term > 0 and float(slope[box]) == pytest.approx(term, rel=1e-5), (box, name)
            doubled = weights.detach().clone()
            doubled[box] *= 2
            second = losses(head, SCENES[:1], [doubled])
            step = float(second[name].detach() - first[name].detach())
            assert step == pytest.approx(term * float(weights[box]), rel=2e-3), (box, name)
    for name in ('loss_corner', 'loss_semantic'):
        (slope,) = torch.autograd.grad(first[name], weights, allow_unused=True, retain_graph=True)
        assert slope is None


def test_a_weight_touches_the_rois_of_its_box_and_no_other(pair):
    """The gradients of the head's answers: scaled where the box owns the RoI, else bit-equal."""
    head = pair[1].roi_head

    def gradients(weights):
        seen = {}
        found = losses(head, SCENES[:1], [weights], seen.update)
        answers = [seen['scores'], seen['deltas']]
        return torch.autograd.grad(found['loss_cls'] + found['loss_bbox'], answers), seen['rois']

    ones = [1.0] * len(ROWS)
    plain, rois = gradients(ones)
    owner = owners(rois, SCENES[:1], roi_labels(rois, SCENES[:1]))
    for box in range(len(ROWS)):
        own = torch.tensor([each[1] == box for each in owner])
        assert own.any()
        weights = list(ones)
        weights[box] = 0.25
        for found, before in zip(gradients(weights)[0], plain, strict=True):
            assert torch.equal(found[own], before[own] * 0.25)
            assert torch.equal(found[~own], before[~own])


def test_background_keeps_its_weight_without_any_hard_box(pair):
    """B3: the only box is soft; at weight 0 the loss of the background RoIs is left."""
    head, seen = pair[1].roi_head, {}
    losses(head, [ROWS[:1]], [[0.0]], seen.update)
    zero = losses(head, [ROWS[:1]], [[0.0]])
    labels = roi_labels(seen['rois'], [ROWS[:1]])
    cls = torch.zeros((), dtype=torch.float64)
    for row, (_, owner, overlap) in enumerate(owners(seen['rois'], [ROWS[:1]], labels)):
        if owner is None:
            target = torch.tensor(min(max(2 * overlap - 0.5, 0.0), 1.0), dtype=torch.float64)
            logit = seen['scores'][row, 0].detach().double()
            cls = cls + nn.functional.binary_cross_entropy_with_logits(logit, target)
    assert float(zero['loss_cls']) == pytest.approx(float(cls) / len(labels), rel=1e-5)
    assert float(zero['loss_bbox']) == 0


def test_corner_and_keypoint_losses_follow_on_request(pair, following):
    full, half = (losses(following, SCENES, [[w] * len(r) for r in SCENES]) for w in (1.0, 0.5))
    assert float(half['loss_corner']) == pytest.approx(float(full['loss_corner']) / 2, rel=1e-6)
    default = losses(pair[1].roi_head, SCENES, [[0.5] * len(rows) for rows in SCENES])
    for name in ('loss_corner', 'loss_semantic'):
        assert torch.equal(default[name], full[name])
    # keypoints: half of what the foreground adds, background is left
    none = losses(following, SCENES, [[0.0] * len(rows) for rows in SCENES])
    expected = (float(full['loss_semantic']) + float(none['loss_semantic'])) / 2
    assert float(half['loss_semantic']) == pytest.approx(expected, rel=1e-6)
    assert 0 < float(none['loss_semantic']) < float(full['loss_semantic'])


def test_keypoints_have_the_weight_of_the_box_they_lie_in(following):
    """One box of several at weight 0: as many keypoints count nothing as lie in it."""
    head = following.semantic_head
    points = features(following, SCENES[:1])['keypoints']
    weights = [1.0, 1.0, 0.0, 1.0, 1.0, 1.0]
    targets = head.get_targets(points, [truth(ROWS, weights)])
    inside = truth(ROWS).bboxes_3d.points_in_boxes_all(points[:, 1:]) > 0
    assert inside.any(0).all()
    assert torch.equal(targets['seg_weights'] == 0, inside[:, 2])
    assert torch.equal(targets['seg_targets'] == 1, inside.any(1))


def test_first_stage_weights_stay_with_their_boxes(pair):
    """Interleaved classes (B1): linear in each weight, each with a slope of its own."""
    head = pair[1].rpn_head
    generator = torch.Generator().manual_seed(0)
    maps = [[torch.randn(1, each, 64, 64, generator=generator)] for each in (18, 42, 12)]

    def total(weights):
        found = head.loss_by_feat(*maps, [truth(ROWS, weights)], [{}], None)
        return {name: float(sum(value)) for name, value in found.items()}

    # alone, a box owns the same anchors unless it shares them with another of its class
    full = total([1.0] * len(ROWS))
    none = total([0.0] * len(ROWS))
    steps = []
    for box in range(len(ROWS)):
        weights = [0.0] * len(ROWS)
        weights[box] = 1.0
        steps.append(total(weights)['loss_rpn_bbox'])
    assert none['loss_rpn_bbox'] == 0
    assert sum(steps) == pytest.approx(full['loss_rpn_bbox'], rel=1e-5)
    mixed = sum(weight * step for weight, step in zip(WEIGHTS, steps, strict=True))
    assert total(WEIGHTS)['loss_rpn_bbox'] == pytest.approx(mixed, rel=1e-5)
    assert sum(step > 0 for step in steps) >= 4 and len(set(steps)) >= 4


# ------------------------------------------------------------------ manners


def test_given_samples_are_not_changed(pair):
    seen = {}
    losses(pair[1].roi_head, SCENES, [WEIGHTS, [0.4, 1.0], [0.6]], seen.update)
    for sample, rows in zip(seen['samples'], SCENES, strict=True):
        instances = sample.gt_instances_3d
        assert isinstance(instances.bboxes_3d, LiDARInstance3DBoxes)
        assert torch.equal(instances.bboxes_3d.tensor, truth(rows).bboxes_3d.tensor)
    assert seen['samples'][0].gt_instances_3d.weights.tolist() == pytest.approx(WEIGHTS)


def test_a_scene_without_boxes_beside_others(pair):
    """The host joins four columns with seven there."""
    mixed = losses(pair[1].roi_head, [ROWS, []], [WEIGHTS, []])
    assert all(value.isfinite() for value in mixed.values()) and float(mixed['loss_bbox']) > 0
    empty = losses(pair[1].roi_head, [[], []])
    assert float(empty['loss_bbox']) == float(empty['loss_corner']) == 0
    assert float(empty['loss_cls']) > 0


def test_options_reach_their_heads(host):
    cfg = soft_detector(
        pv_rcnn(),
        dict(loss_norm='sample', weight_dir=True, weight_corner=True, weight_keypoints=True),
    )
    made = build(cfg)
    assert made.rpn_head.loss_norm == 'sample' and made.rpn_head.weight_dir
    assert made.roi_head.bbox_head.weight_corner and made.roi_head.semantic_head.weight_keypoints


@pytest.mark.parametrize(
    ('key', 'kind'),
    [('type', 'PartA2'), ('rpn_head', 'PointRPNHead'), ('roi_head', 'PartAggregationROIHead')],
)
def test_parts_without_a_soft_kind_are_named(host, key, kind):
    cfg = pv_rcnn()
    part = cfg if key == 'type' else cfg[key]
    part['type'] = kind
    with pytest.raises(UserError, match=f'{key} {kind!r}.*PV-RCNN'):
        soft_detector(cfg, {})


def test_unknown_options_are_named(host):
    with pytest.raises(TypeError, match='weight_corners'):
        build(soft_detector(pv_rcnn(), dict(weight_corners=True)))
