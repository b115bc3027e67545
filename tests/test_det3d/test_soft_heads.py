"""Soft-weighted anchor head: equal to the stock head at weight 1, and a weight is its box's own.

The reference below assigns anchors and sums losses by loops, in float64, from the definition:
every anchor of a class takes the box of that class with the best nearest-BEV overlap.
"""

import copy

import pytest
import torch
from det3d_scenes import boxes_of, pointpillars
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from mmdistill.core.errors import UserError

# classes interleaved; the last two boxes share anchors of one class
ROWS = [(10, 0, 2, 0.1), (6, 5, 0), (16, -6, 2, 1.5), (19, 6, 1), (4.4, -2.9, 0, 1.2), (11, 1.6, 2)]


@pytest.fixture
def build(host):
    """Builds a head of the tiny detector, weights a function of the seed."""
    from mmdet3d.registry import MODELS

    def make(kind='mmdistill.SoftAnchor3DHead', seed=0, **head_cfg):
        cfg = copy.deepcopy(pointpillars(head=kind))
        cfg['bbox_head'].update(head_cfg)
        torch.manual_seed(seed)
        return MODELS.build(ConfigDict(cfg)).bbox_head

    return make


def maps(head, batch, seed=0, size=32):
    """Random class, box and direction maps that require gradients."""
    generator = torch.Generator().manual_seed(seed)
    anchors = 6
    channels = [anchors * 3, anchors * 7, anchors * 2]
    made = [
        torch.randn(batch, each, size, size, generator=generator) * 0.5 - (3 if i == 0 else 0)
        for i, each in enumerate(channels)
    ]
    return [[each.requires_grad_()] for each in made]


def instances(rows, weights=None):
    """Ground truth with weights."""
    from mmdet3d.structures import LiDARInstance3DBoxes

    boxes, labels = boxes_of(rows)
    made = InstanceData(bboxes_3d=LiDARInstance3DBoxes(boxes), labels_3d=labels)
    if weights is not None:
        made.weights = torch.as_tensor(weights, dtype=torch.float32)
    return made


def losses(head, outs, truths):
    """Loss of each kind as one number."""
    found = head.loss_by_feat(*outs, truths, [{} for _ in truths], None)
    return {name: sum(value) for name, value in found.items()}


def assign(head, rows):
    """(A,) index of the box each anchor learns, -1 background, -2 ignored; anchors as the maps."""
    from mmdet3d.structures import LiDARInstance3DBoxes

    anchors = head.prior_generator.grid_anchors([(32, 32)], device='cpu')[0]
    boxes, labels = boxes_of(rows)
    owner = torch.full(anchors.shape[:-1], -1)
    limits = ((0.5, 0.35), (0.5, 0.35), (0.6, 0.45))
    for label, (high, low) in enumerate(limits):
        own = (labels == label).nonzero().squeeze(1)
        if len(own) == 0:
            continue
        prior = LiDARInstance3DBoxes(anchors[..., label, :, :].reshape(-1, 7)).nearest_bev
        target = LiDARInstance3DBoxes(boxes[own]).nearest_bev
        overlap = torch.stack([pair_iou(prior, each) for each in target], 1)
        best, which = overlap.max(1)
        chosen = torch.full((len(prior),), -2)
        chosen[best < low] = -1
        chosen[best >= high] = own[which[best >= high]]
        for column, index in enumerate(own.tolist()):
            if overlap[:, column].max() >= low:
                chosen[overlap[:, column] == overlap[:, column].max()] = index
        owner[..., label, :] = chosen.view(*owner.shape[:3], 2)
    return owner.reshape(-1)


def pair_iou(priors, box):
    """IoU of axis-aligned rectangles (A, 4) with one (4,)."""
    low, high = torch.maximum(priors[:, :2], box[:2]), torch.minimum(priors[:, 2:], box[2:])
    inter = (high - low).clamp(min=0).prod(1)
    sizes = (priors[:, 2:] - priors[:, :2]).prod(1) + (box[2:] - box[:2]).prod()
    return inter / (sizes - inter)


def focal(logits, label):
    """Focal loss of one anchor (float64), label 3 is background."""
    target = torch.zeros(3, dtype=torch.float64)
    if label < 3:
        target[label] = 1
    p = logits.double().sigmoid()
    miss = (1 - p) * target + p * (1 - target)
    alpha = 0.25 * target + 0.75 * (1 - target)
    entropy = -(target * p.log() + (1 - target) * (1 - p).log())
    return (alpha * miss**2 * entropy).sum()


def reference_cls(head, logits, scenes, norm):
    """Weighted classification loss of scenes ``(rows, weights)`` by loops over anchors."""
    sums, positives = [], []
    for scene, (rows, weights) in enumerate(scenes):
        owner, labels = assign(head, rows), boxes_of(rows)[1]
        table = logits[scene].permute(1, 2, 0).reshape(-1, 3)
        total = torch.zeros((), dtype=torch.float64)
        p = table[owner == -1].double().sigmoid()
        total += (0.75 * p**2 * -(1 - p).log()).sum()
        for anchor in (owner >= 0).nonzero().squeeze(1).tolist():
            index = int(owner[anchor])
            total += weights[index] * focal(table[anchor], int(labels[index]))
        sums.append(total)
        positives.append(max(int((owner >= 0).sum()), 1))
    if norm == 'sample':
        return sum(s / n for s, n in zip(sums, positives, strict=True)) / len(sums)
    return sum(sums) / sum(positives)


# ------------------------------------------------------------------ equality with the host


@pytest.mark.parametrize('per_class', [True, False])
@pytest.mark.parametrize('weights', [None, 1.0])
def test_weight_one_is_the_stock_head_bit_exactly(build, per_class, weights):
    stock = build('mmdet3d.Anchor3DHead', assign_per_class=per_class)
    soft = build(assign_per_class=per_class)
    soft.load_state_dict(stock.state_dict(), strict=True)
    scenes = [ROWS, ROWS[2:4], []]
    truths = [
        instances(rows, None if weights is None else [weights] * len(rows)) for rows in scenes
    ]
    found = losses(soft, maps(soft, 3), truths)
    expected = losses(stock, maps(stock, 3), [instances(rows) for rows in scenes])
    assert set(found) == {'loss_cls', 'loss_bbox', 'loss_dir'}
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
        assert value.isfinite() and value > 0


def test_gradients_at_weight_one_are_the_stock_heads(build):
    stock, soft = build('mmdet3d.Anchor3DHead'), build()
    grads = []
    for head in (stock, soft):
        outs = maps(head, 2)
        sum(losses(head, outs, [instances(ROWS), instances([])]).values()).backward()
        grads.append([each.grad for out in outs for each in out])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_one_class_with_one_assigner(build, host):
    """KITTI's car configs: no list of assigners, one anchor size."""
    from mmdet3d.registry import MODELS

    found = []
    for kind in ('mmdet3d.Anchor3DHead', 'mmdistill.SoftAnchor3DHead'):
        cfg = copy.deepcopy(pointpillars(head=kind))
        cfg['bbox_head']['num_classes'] = 1
        cfg['bbox_head']['assign_per_class'] = True
        anchors = cfg['bbox_head']['anchor_generator']
        anchors.update(
            type='mmdet3d.Anchor3DRangeGenerator',
            ranges=anchors['ranges'][:1],
            sizes=anchors['sizes'][2:],
            reshape_out=True,
        )
        cfg['train_cfg']['assigner'] = cfg['train_cfg']['assigner'][2]
        head = MODELS.build(ConfigDict(cfg)).bbox_head
        generator = torch.Generator().manual_seed(0)
        outs = [[torch.randn(1, each, 32, 32, generator=generator)] for each in (2, 14, 4)]
        truth = instances([(10, 0, 2), (16, -6, 2, 1.5)])
        truth.labels_3d[:] = 0
        found.append(losses(head, outs, [truth]))
        truth.weights = torch.tensor([0.5, 0.5])
        found.append(losses(head, outs, [truth]))
    stock, _, soft, halved = found
    assert all(torch.equal(stock[name], soft[name]) for name in stock)
    assert torch.equal(halved['loss_bbox'] * 2, stock['loss_bbox'])


# ------------------------------------------------------------------ a weight is its box's own


@pytest.mark.parametrize('norm', ['batch', 'sample'])
def test_classification_loss_equals_the_loops(build, norm):
    head = build(loss_norm=norm)
    scenes = [(ROWS, [1.0, 0.3, 0.5, 0.9, 0.2, 0.7]), (ROWS[3:5], [0.6, 1.0]), ([], [])]
    outs = maps(head, 3)
    found = losses(head, outs, [instances(*scene) for scene in scenes])['loss_cls']
    expected = reference_cls(head, outs[0][0].detach(), scenes, norm)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_a_weight_touches_the_anchors_of_its_box_and_no_other(build):
    """Interleaved classes (B1): the gradient of the maps moves only where the box's anchors are."""
    head = build()
    owner = assign(head, ROWS)

    def gradients(weights):
        outs = maps(head, 1)
        sum(losses(head, outs, [instances(ROWS, weights)]).values()).backward()
        return [each[0].grad[0].permute(1, 2, 0).reshape(len(owner), -1) for each in outs]

    plain = gradients([1.0] * len(ROWS))
    for box in range(len(ROWS)):
        weights = [1.0] * len(ROWS)
        weights[box] = 0.25
        own = owner == box
        assert own.any()
        for kind, (found, before) in enumerate(zip(gradients(weights), plain, strict=True)):
            factor = 1.0 if kind == 2 else 0.25  # the direction loss does not follow the weights
            assert torch.equal(found[own], before[own] * factor)
            assert torch.equal(found[~own], before[~own])


def test_doubling_a_weight_doubles_the_terms_of_its_box(build):
    """The loss is linear in each weight, with a slope above zero for every box."""
    head = build()
    weights = torch.tensor([0.5, 0.3, 0.5, 0.25, 0.2, 0.4], requires_grad=True)
    outs = maps(head, 1)
    first = losses(head, outs, [instances(ROWS, weights)])
    for name in ('loss_cls', 'loss_bbox'):
        (slope,) = torch.autograd.grad(first[name], weights, retain_graph=True)
        assert bool((slope > 0).all())
        for box in range(len(ROWS)):
            doubled = weights.detach().clone()
            doubled[box] *= 2
            second = losses(head, outs, [instances(ROWS, doubled)])[name]
            step = float(slope[box] * weights[box])
            assert float(second - first[name]) == pytest.approx(step, rel=2e-4)
    assert first['loss_dir'].grad_fn is not None
    (slope,) = torch.autograd.grad(first['loss_dir'], weights, allow_unused=True)
    assert slope is None or bool((slope == 0).all())


def test_direction_loss_follows_on_request(build):
    head = build(weight_dir=True)
    halves = [0.5] * len(ROWS)
    full = losses(head, maps(head, 1), [instances(ROWS)])
    half = losses(head, maps(head, 1), [instances(ROWS, halves)])
    for name in ('loss_bbox', 'loss_dir'):
        assert float(half[name]) == pytest.approx(float(full[name]) / 2, rel=1e-6)


def test_background_keeps_its_weight_without_any_hard_box(build):
    """B3: a scene whose only box is soft; nothing but its anchors changes."""
    head = build()
    rows = [(10, 0, 2, 0.1)]
    owner = assign(head, rows)
    grads = []
    for weight in (1.0, 0.1):
        outs = maps(head, 1)
        losses(head, outs, [instances(rows, [weight])])['loss_cls'].backward()
        grads.append(outs[0][0].grad[0].permute(1, 2, 0).reshape(len(owner), -1))
    assert torch.equal(grads[0][owner != 0], grads[1][owner != 0])
    assert not torch.equal(grads[0][owner == 0], grads[1][owner == 0])
    # a weight of 0 leaves the background loss of a scene without boxes, over the same anchors
    outs = maps(head, 1)
    zero = losses(head, outs, [instances(rows, [0.0])])
    p = outs[0][0].detach()[0].permute(1, 2, 0).reshape(-1, 3)[owner == -1].double().sigmoid()
    background = (0.75 * p**2 * -(1 - p).log()).sum() / int((owner == 0).sum())
    assert float(zero['loss_cls']) == pytest.approx(float(background), rel=1e-5)
    assert float(zero['loss_bbox']) == 0


def test_order_of_the_boxes_does_not_matter(build):
    head = build()
    weights = [1.0, 0.3, 0.5, 0.9, 0.2, 0.7]
    order = [4, 0, 5, 2, 1, 3]
    first = losses(head, maps(head, 1), [instances(ROWS, weights)])
    second = losses(
        head, maps(head, 1), [instances([ROWS[i] for i in order], [weights[i] for i in order])]
    )
    for name, value in first.items():
        assert float(second[name]) == pytest.approx(float(value), rel=1e-6)


# ------------------------------------------------------------------ normalisation


def test_sample_norm_is_the_mean_of_single_scene_losses(build):
    """Loop reference: the stock loss of every scene alone, averaged over the scenes."""
    head, stock = build(loss_norm='sample'), build('mmdet3d.Anchor3DHead')
    scenes = [ROWS, ROWS[3:4], [], ROWS[:2]]
    outs = maps(head, 4)
    found = losses(head, outs, [instances(rows) for rows in scenes])
    single = [
        losses(stock, [[each[0][i : i + 1]] for each in outs], [instances(rows)])
        for i, rows in enumerate(scenes)
    ]
    for name, value in found.items():
        expected = sum(float(each[name]) for each in single) / 4
        assert float(value) == pytest.approx(expected, rel=1e-5), name
    batch = losses(stock, outs, [instances(rows) for rows in scenes])
    assert float(batch['loss_cls']) != pytest.approx(float(found['loss_cls']), rel=1e-2)


def test_norms_agree_on_a_single_scene(build):
    outs = [build(loss_norm=norm) for norm in ('batch', 'sample')]
    first, second = (losses(head, maps(head, 1), [instances(ROWS)]) for head in outs)
    assert all(float(first[k]) == pytest.approx(float(second[k]), rel=1e-6) for k in first)


# ------------------------------------------------------------------ manners


def test_given_instances_are_not_changed(build):
    from mmdet3d.structures import LiDARInstance3DBoxes

    truth = instances(ROWS, [0.5] * len(ROWS))
    boxes, tensor = truth.bboxes_3d, truth.bboxes_3d.tensor.clone()
    head = build()
    losses(head, maps(head, 1), [truth])
    assert truth.bboxes_3d is boxes and isinstance(boxes, LiDARInstance3DBoxes)
    assert torch.equal(boxes.tensor, tensor) and truth.weights.tolist() == [0.5] * len(ROWS)


def test_predictions_are_the_stock_heads(build):
    stock, soft = build('mmdet3d.Anchor3DHead'), build()
    metas = [dict(box_type_3d=instances(ROWS).bboxes_3d.__class__)]
    with torch.no_grad():
        first, second = (h.predict_by_feat(*maps(h, 1), metas)[0] for h in (stock, soft))
    assert len(first) > 0
    assert torch.equal(first.bboxes_3d.tensor, second.bboxes_3d.tensor)
    assert torch.equal(first.scores_3d, second.scores_3d)


def test_wrong_options_are_refused(build):
    with pytest.raises(UserError, match="'batch' or 'sample'"):
        build(loss_norm='mean')
    with pytest.raises(TypeError, match='weight_direction'):
        build(weight_direction=True)
