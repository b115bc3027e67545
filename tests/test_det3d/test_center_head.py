"""Soft-weighted centre head: the stock head at weight 1, and a weight is its box's own.

The reference finds the owner of a cell without our code: it lets the stock head draw every
object alone and takes the largest value; losses are summed in float64 from the definition.
"""

import copy

import pytest
import torch
from centerpoint_cfg import centerpoint
from det3d_scenes import CLASSES, boxes_of
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from mmdistill.core.errors import UserError

SOFT = 'mmdistill.SoftCenterHead'
# classes interleaved; the two cars in front meet, as do their Gaussians
ROWS = [(10, 0, 2, 0.1), (6, 5, 0), (16, -6, 2, 1.5), (19, 6, 1), (4.4, -2.9, 0, 1.2), (11.3, 1, 2)]
WEIGHTS = [1.0, 0.3, 0.5, 0.9, 0.2, 0.7]
ONE_TASK = [CLASSES]
TWO_TASKS = [CLASSES[:1], CLASSES[1:]]


@pytest.fixture
def build(host):
    """Builds a head of the tiny CenterPoint, weights a function of the seed."""
    from mmdet3d.registry import MODELS

    def make(kind=SOFT, tasks=ONE_TASK, velocity=False, train=None, seed=0, **head_cfg):
        named = [dict(num_class=len(names), class_names=names) for names in tasks]
        cfg = centerpoint(head=kind, tasks=named, velocity=velocity, **head_cfg)
        cfg['train_cfg']['pts'].update(train or {})
        torch.manual_seed(seed)
        return MODELS.build(ConfigDict(copy.deepcopy(cfg))).pts_bbox_head

    return make


def instances(rows, weights=None, velocity=False):
    """Ground truth with weights; velocities are functions of the row."""
    from mmdet3d.structures import LiDARInstance3DBoxes

    boxes, labels = boxes_of(rows)
    if velocity:
        speeds = torch.arange(2.0 * len(boxes)).view(-1, 2) / 5 - 1
        boxes = torch.cat([boxes, speeds], 1)
    made = InstanceData(
        bboxes_3d=LiDARInstance3DBoxes(boxes, box_dim=boxes.shape[1]), labels_3d=labels
    )
    if weights is not None:
        made.weights = torch.as_tensor(weights, dtype=torch.float32)
    return made


def crowd(count, seed):
    """Random objects of all sizes, some out of range, some of a class that is not trained."""
    from mmdet3d.structures import LiDARInstance3DBoxes

    generator = torch.Generator().manual_seed(seed)
    unit = torch.rand(count, 9, generator=generator)
    low = torch.tensor([-2, -14, -2, 0.3, 0.3, 0.5, -3, -4, -4])
    high = torch.tensor([28, 14, 0, 9, 4, 3, 3, 4, 4])
    labels = torch.randint(-1, 3, (count,), generator=generator)
    boxes = LiDARInstance3DBoxes(low + unit * (high - low), box_dim=9)
    return InstanceData(bboxes_3d=boxes, labels_3d=labels)


def maps(head, batch, seed=0, size=32):
    """Random maps of every task as leaves; ``given`` makes the dicts that a head may write to."""
    generator = torch.Generator().manual_seed(seed)
    sizes = dict(reg=2, height=1, dim=3, rot=2, vel=2)
    if 'vel' not in head.task_heads[0].heads:
        sizes.pop('vel')
    made = []
    for classes in head.num_classes:
        numbers = {**sizes, 'heatmap': classes}
        made.append(
            {
                name: torch.randn(batch, each, size, size, generator=generator).requires_grad_()
                for name, each in numbers.items()
            }
        )
    return made


def given(made):
    """The maps as a head receives them: not leaves, one level per task."""
    return tuple([{name: value * 1 for name, value in task.items()}] for task in made)


def losses(head, made, truths):
    """The losses by name."""
    return head.loss_by_feat(given(made), truths)


def gradients(head, made, truths):
    """Gradients of the summed loss with respect to every map, by task and name."""
    leaves = [value for task in made for value in task.values()]
    found = iter(torch.autograd.grad(sum(losses(head, made, truths).values()), leaves))
    return [{name: next(found) for name in task} for task in made]


def drawn_alone(stock, rows):
    """(K, C, H, W) heatmaps of the objects, each alone, by the stock head of one task."""
    return torch.stack(
        [stock.get_targets([instances([row], velocity=True)])[0][0][0] for row in rows]
    )


def owners(stock, rows):
    """(C, H, W) index of the object with the largest Gaussian, -1 where there is none."""
    value, owner = drawn_alone(stock, rows).max(0)
    return torch.where(value > 0, owner, -1)


# ------------------------------------------------------------------ equality with the host


@pytest.mark.parametrize('tasks', [ONE_TASK, TWO_TASKS])
@pytest.mark.parametrize('seed', range(3))
def test_targets_are_the_stock_heads_bit_by_bit(build, tasks, seed):
    """Crowds beyond ``max_objs`` (40), objects out of range, empty scenes."""
    stock, soft = build('mmdet3d.CenterHead', tasks, True), build(SOFT, tasks, True)
    truths = [crowd(count, seed + count) for count in (30, 0, 90)]
    columns = zip(*stock.get_targets(truths), strict=True)
    for found, (heatmap, boxes, cells, mask) in zip(soft.get_targets(truths), columns, strict=True):
        assert torch.equal(found.heatmap, heatmap) and torch.equal(found.boxes, boxes)
        assert torch.equal(found.cells, cells) and torch.equal(found.found, mask.bool())
        assert torch.equal(found.weights, mask.float())
        assert bool((found.heatmap_weights == 1).all())
        assert 10 < int(mask[0].sum()) < 30 < int(mask[2].sum()) <= 40 or len(tasks) == 2


@pytest.mark.parametrize('tasks', [ONE_TASK, TWO_TASKS])
@pytest.mark.parametrize('weights', [None, 1.0])
@pytest.mark.parametrize('scenes', [(ROWS, ROWS[2:4], []), ([], [])])
def test_weight_one_is_the_stock_head_bit_exactly(build, tasks, weights, scenes):
    stock, soft = build('mmdet3d.CenterHead', tasks, True), build(SOFT, tasks, True)
    soft.load_state_dict(stock.state_dict(), strict=True)
    truths = [
        instances(rows, None if weights is None else [weights] * len(rows), True) for rows in scenes
    ]
    made = maps(soft, len(scenes))
    found = losses(soft, made, truths)
    expected = losses(stock, made, [instances(rows, None, True) for rows in scenes])
    assert set(found) == set(expected) and len(found) == 2 * len(tasks)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
        assert value.isfinite() and (value > 0 or not scenes[0])
    for one, two in zip(*(gradients(h, made, truths) for h in (stock, soft)), strict=True):
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_seven_numbers_are_nine_with_a_velocity_nobody_asks_for(build):
    """The stock head on boxes at rest, velocity without weight, against KITTI's boxes."""
    still = dict(code_weights=[1.0] * 8 + [0.0, 0.0])
    stock, soft = build('mmdet3d.CenterHead', ONE_TASK, True, still), build()
    made = maps(stock, 2)
    short = [{name: value for name, value in made[0].items() if name != 'vel'}]
    expected = losses(stock, made, [instances(ROWS, None, True), instances([], None, True)])
    found = losses(soft, short, [instances(ROWS), instances([])])
    assert torch.equal(found['task0.loss_heatmap'], expected['task0.loss_heatmap'])
    torch.testing.assert_close(found['task0.loss_bbox'], expected['task0.loss_bbox'])
    # boxes with a velocity are read by a head of 7 numbers as if they had none
    again = losses(soft, short, [instances(ROWS, None, True), instances([])])
    assert all(torch.equal(again[name], value) for name, value in found.items())
    with pytest.raises(UserError, match='7 numbers, but the head learns 9'):
        losses(build(velocity=True), made, [instances(ROWS), instances([])])


@pytest.mark.parametrize('velocity', [False, True])
def test_predictions_are_the_stock_heads(build, velocity):
    from mmdet3d.structures import LiDARInstance3DBoxes

    heads = [build(kind, TWO_TASKS, velocity) for kind in ('mmdet3d.CenterHead', SOFT)]
    made, metas = maps(heads[0], 2), [dict(box_type_3d=LiDARInstance3DBoxes)] * 2
    with torch.no_grad():
        first, second = (head.predict_by_feat(given(made), metas) for head in heads)
    for stock, soft in zip(first, second, strict=True):
        assert len(stock) > 5 and stock.bboxes_3d.tensor.shape[1] == 7 + 2 * velocity
        assert torch.equal(stock.bboxes_3d.tensor, soft.bboxes_3d.tensor)
        assert torch.equal(stock.scores_3d, soft.scores_3d)
        assert torch.equal(stock.labels_3d, soft.labels_3d)
        assert soft.peak_scores_3d.shape == soft.scores_3d.shape


@pytest.mark.parametrize('velocity', [False, True])
@pytest.mark.parametrize('tasks', [ONE_TASK, TWO_TASKS])
def test_maps_that_are_the_targets_give_the_boxes_back(build, tasks, velocity):
    """Targets and coder are each other's inverse, height of the bottom and velocity included."""
    from mmdet3d.structures import LiDARInstance3DBoxes

    head, truth = build(SOFT, tasks, velocity), instances(ROWS, WEIGHTS, velocity)
    made = maps(head, 1)
    for task, targets in zip(made, head.get_targets([truth]), strict=True):
        task['heatmap'] = targets.heatmap.clamp(1e-6, 1 - 1e-6).logit()
        names = [name for name in ('reg', 'height', 'dim', 'rot', 'vel') if name in task]
        found, start = targets.found[0], 0
        for name in names:
            table = torch.zeros_like(task[name]).flatten(2)
            width = table.shape[1]
            learned = targets.boxes[0, found, start : start + width]
            table[0, :, targets.cells[0, found]] = learned.T
            task[name], start = table.view_as(task[name]), start + width
    head.test_cfg.nms_thr = 0.9  # the cars in front overlap
    with torch.no_grad():
        metas = [dict(box_type_3d=LiDARInstance3DBoxes)]
        found = head.predict_by_feat(given(made), metas)[0]
    found = found[found.scores_3d > 0.99]
    order = [
        int((found.bboxes_3d.tensor[:, :2] - box[:2]).norm(dim=1).argmin())
        for box in truth.bboxes_3d.tensor
    ]
    assert sorted(order) == list(range(6)) and len(found) == 6
    assert torch.equal(found.labels_3d[order].long(), truth.labels_3d)
    boxes = found.bboxes_3d.tensor[order]
    torch.testing.assert_close(boxes, truth.bboxes_3d.tensor, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.peak_scores_3d, found.scores_3d)


# ------------------------------------------------------------------ a weight is its box's own


def test_weights_of_cells_are_those_of_the_largest_gaussian(build):
    stock, soft = build('mmdet3d.CenterHead', velocity=True), build()
    owner = owners(stock, ROWS)
    targets = soft.get_targets([instances([]), instances(ROWS, WEIGHTS)])[0]
    expected = torch.tensor([*WEIGHTS, 1.0])[owner]
    assert torch.equal(targets.heatmap_weights[1], expected)
    assert torch.equal(targets.heatmap[1], drawn_alone(stock, ROWS).amax(0))
    assert bool((targets.heatmap_weights[0] == 1).all())
    assert sorted(owner.unique().tolist()) == [-1, 0, 1, 2, 3, 4, 5]
    # the cars in front share cells, and each keeps those where it is the larger one
    shared = (drawn_alone(stock, ROWS)[[0, 5], 2] > 0).all(0)
    assert {0, 5} <= set(owner[2][shared].tolist())


@pytest.mark.parametrize('normalizer', ['count', 'weight'])
def test_losses_equal_the_definition_in_float64(build, normalizer):
    stock, head = build('mmdet3d.CenterHead', velocity=True), build(normalizer=normalizer)
    made, scenes = maps(head, 3), [(ROWS, WEIGHTS), (ROWS[3:5], [0.6, 1.0]), ([], [])]
    found = losses(head, made, [instances(*scene) for scene in scenes])
    heat, count, boxes, learned = 0.0, 0.0, 0.0, 0.0
    for row, (rows, weights) in enumerate(scenes):
        p = made[0]['heatmap'][row].detach().double().sigmoid().clamp(1e-4, 1 - 1e-4)
        target = drawn_alone(stock, rows).amax(0).double() if rows else torch.zeros_like(p)
        owner = owners(stock, rows) if rows else torch.full(p.shape, -1)
        weight = torch.tensor([*weights, 1.0]).double()[owner]
        miss = torch.where(
            target == 1, -((1 - p) ** 2) * p.log(), -((1 - target) ** 4) * p**2 * (1 - p).log()
        )
        heat += float((miss * weight).sum())
        count += float(weight[target == 1].sum() if normalizer == 'weight' else (target == 1).sum())
        for (x, y, label, *yaw), own in zip(rows, weights, strict=True):
            box = boxes_of([(x, y, label, *yaw)])[0][0].double()
            place = torch.tensor([x / 0.8, (y + 12.8) / 0.8], dtype=torch.float64)
            at = place.long()
            goal = torch.cat(
                [
                    place - at,
                    box[2:3] + box[5:6] / 2,
                    box[3:6].log(),
                    box[6:7].sin(),
                    box[6:7].cos(),
                ]
            )
            names = ('reg', 'height', 'dim', 'rot')
            answer = torch.cat([made[0][n][row, :, at[1], at[0]] for n in names]).detach()
            boxes += own * float((answer - goal).abs().sum())
            learned += own if normalizer == 'weight' else 1
    assert float(found['task0.loss_heatmap'].detach()) == pytest.approx(
        heat / max(count, 1), rel=1e-5
    )
    assert float(found['task0.loss_bbox']) == pytest.approx(
        0.25 * boxes / (learned + 1e-4), rel=1e-4
    )


@pytest.mark.parametrize('tasks', [ONE_TASK, TWO_TASKS])
def test_a_weight_touches_the_cells_of_its_box_and_no_other(build, tasks):
    """Interleaved classes (B1): gradients move only where the box rules, and by its factor."""
    head = build(SOFT, tasks)
    owner = owners(build('mmdet3d.CenterHead', velocity=True), ROWS)
    made = maps(head, 1)
    plain = gradients(head, made, [instances(ROWS)])
    for box, (x, y, *_) in enumerate(ROWS):
        weights = [1.0] * len(ROWS)
        weights[box] = 0.25
        moved = gradients(head, made, [instances(ROWS, weights)])
        heat, before = (torch.cat([g['heatmap'][0] for g in each]) for each in (moved, plain))
        own = owner == box
        assert own.any() and torch.equal(heat[own], before[own] * 0.25)
        assert torch.equal(heat[~own], before[~own])
        center = torch.zeros(32, 32, dtype=torch.bool)
        center[int((y + 12.8) / 0.8), int(x / 0.8)] = True
        for name in ('reg', 'height', 'dim', 'rot'):
            found, whole = (sum(g[name][0] for g in each) for each in (moved, plain))
            assert torch.equal(found[:, center], whole[:, center] * 0.25)
            assert whole[:, center].any() and torch.equal(found[:, ~center], whole[:, ~center])


def test_doubling_a_weight_doubles_the_terms_of_its_box(build):
    """Each loss is linear in each weight, with a slope above zero for every box."""
    head = build()
    weights = torch.tensor([0.5, 0.3, 0.5, 0.25, 0.2, 0.4], requires_grad=True)
    made = maps(head, 1)

    def truth(values):
        made_here = instances(ROWS)
        made_here.weights = values
        return [made_here]

    first = losses(head, made, truth(weights))
    for name, value in first.items():
        (slope,) = torch.autograd.grad(value, weights, retain_graph=True)
        assert bool((slope > 0).all())
        for box in range(len(ROWS)):
            doubled = weights.detach().clone()
            doubled[box] *= 2
            step = float(losses(head, made, truth(doubled))[name] - value)
            assert step == pytest.approx(float(slope[box] * weights[box]), rel=1e-3)


def test_background_keeps_its_weight_without_any_hard_box(build):
    """B3: the only box is soft; at weight 0 nothing but the background is left."""
    stock, head = build('mmdet3d.CenterHead', velocity=True), build()
    rows, made = ROWS[:1], maps(head, 1)
    region = drawn_alone(stock, rows)[0] > 0
    found = losses(head, made, [instances(rows, [0.0])])
    p = made[0]['heatmap'][0].detach().double().sigmoid().clamp(1e-4, 1 - 1e-4)
    background = float((p**2 * -(1 - p).log())[~region].sum())
    assert float(found['task0.loss_heatmap']) == pytest.approx(background, rel=1e-5)
    assert float(found['task0.loss_bbox']) == 0


def test_boxes_out_of_range_take_their_weight_along(build):
    """B2: an object that the head cannot place shifts no weight to another."""
    head, made = build(), maps(build(), 1)
    rows = [(40, 0, 2), *ROWS[:2], (5, 30, 0), *ROWS[2:]]
    weights = [0.01, *WEIGHTS[:2], 0.02, *WEIGHTS[2:]]
    expected = losses(head, made, [instances(ROWS, WEIGHTS)])
    for name, value in losses(head, made, [instances(rows, weights)]).items():
        torch.testing.assert_close(value, expected[name])


def test_order_does_not_matter_and_equal_gaussians_weigh_as_the_heavier(build):
    head, made, order = build(), maps(build(), 1), [4, 0, 5, 2, 1, 3]
    first = losses(head, made, [instances(ROWS, WEIGHTS)])
    shuffled = instances([ROWS[i] for i in order], [WEIGHTS[i] for i in order])
    for name, value in losses(head, made, [shuffled]).items():
        torch.testing.assert_close(value, first[name])
    for pair in ([0.2, 1.0], [1.0, 0.2]):
        weights = head.get_targets([instances([ROWS[0], ROWS[0]], pair)])[0].heatmap_weights
        assert bool((weights == 1).all())


def test_a_weight_stays_in_the_map_of_its_class(build):
    """A light pedestrian inside a car leaves the car's map alone."""
    head = build()
    rows = [(10, 0, 2, 0.1), (10, 0, 0, 0.0)]
    weights = head.get_targets([instances(rows, [1.0, 0.1])])[0].heatmap_weights[0]
    assert bool((weights[2] == 1).all()) and bool((weights[1] == 1).all())
    assert sorted(weights[0].unique().tolist()) == pytest.approx([0.1, 1.0])


# ------------------------------------------------------------------ normalisation, velocity


def test_normalizers_divide_by_counts_or_by_weights(build):
    """Six objects with centres of their own: N = 6, or the sum of the weights."""
    count, weight = build(), build(normalizer='weight')
    made, truth = maps(count, 1), [instances(ROWS, WEIGHTS)]
    first, second = losses(count, made, truth), losses(weight, made, truth)
    total = sum(WEIGHTS)
    for name, small in (('task0.loss_heatmap', 0.0), ('task0.loss_bbox', 1e-4)):
        expected = float(first[name]) * (6 + small) / (total + small)
        assert float(second[name]) == pytest.approx(expected, rel=1e-5)
    # few light objects: the heatmap's divisor stays at least 1
    light = [instances(ROWS[:2], [0.1, 0.2])]
    assert float(losses(weight, made, light)['task0.loss_heatmap']) == pytest.approx(
        2 * float(losses(count, made, light)['task0.loss_heatmap']), rel=1e-5
    )


def test_an_unknown_velocity_is_not_learned(build):
    head = build(velocity=True)
    made = maps(head, 1)
    truth, unknown = instances(ROWS, None, True), instances(ROWS, None, True)
    unknown.bboxes_3d.tensor[1, 7:] = torch.nan
    plain, moved = gradients(head, made, [truth]), gradients(head, made, [unknown])
    x, y = ROWS[1][:2]
    at = int((y + 12.8) / 0.8), int(x / 0.8)
    for name, value in moved[0].items():
        assert value.isfinite().all()
        if name != 'vel':
            assert torch.equal(value, plain[0][name])
    assert bool((moved[0]['vel'][0, :, at[0], at[1]] == 0).all())
    assert bool((plain[0]['vel'][0, :, at[0], at[1]] != 0).all())
    assert losses(head, made, [unknown])['task0.loss_bbox'].isfinite()


# ------------------------------------------------------------------ manners


def test_given_instances_and_maps_are_not_changed(build):
    truth = instances(ROWS, WEIGHTS)
    boxes, tensor = truth.bboxes_3d, truth.bboxes_3d.tensor.clone()
    head = build()
    made = given(maps(head, 1))
    before = {name: value.clone() for name, value in made[0][0].items()}
    first, second = (head.loss_by_feat(made, [truth]) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(made[0][0][name], value) for name, value in before.items())
    assert truth.bboxes_3d is boxes and torch.equal(boxes.tensor, tensor)
    assert truth.weights.tolist() == pytest.approx(WEIGHTS)


def test_huge_objects_and_tiny_maps(build):
    """A box larger than the range draws over the whole map, as in the stock head."""
    stock, soft = build('mmdet3d.CenterHead', velocity=True), build(SOFT, velocity=True)
    truth = instances(ROWS[:1], None, True)
    truth.bboxes_3d.tensor[:, 3:5] = 300.0
    expected = stock.get_targets([truth])[0][0]
    found = soft.get_targets([truth])[0]
    assert torch.equal(found.heatmap, expected) and bool((expected[0, 2] > 0).all())


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(normalizer='mean'), "'count' or 'weight', got 'mean'"),
        (dict(velocity=True, train=dict(code_weights=[1.0] * 8)), 'has 8 numbers.*with vel.*as 10'),
        (dict(train=dict(code_weights=[1.0] * 10)), 'has 10 numbers.*without vel.*as 8'),
        (
            dict(common_heads=dict(reg=(2, 1), height=(1, 1), dim=(3, 1), rot=(2, 1), vel=(2, 1))),
            'code_size is 7.*with vel.*set code_size=9',
        ),
        (dict(normaliser='count'), 'normaliser'),
    ],
)
def test_wrong_options_are_refused(build, options, message):
    with pytest.raises((UserError, TypeError), match=message):
        build(**options)
