"""Boxes with a velocity and points with more columns travel unharmed through everything.

The moving teacher reads velocities as the perfect teacher reads boxes: from a fourth marker,
where the object will be in a second. It is equivariant, so what it says in a view must be what
the view makes of what it says of the raw scene.
"""

import itertools
import math

import pytest
import torch
from centerpoint_cfg import center_hssda_cfg, centerpoint
from det3d_scenes import (
    CLASSES,
    PerfectTeacher,
    angle_gap,
    boxes_of,
    cloud,
    initialised,
    pointpillars,
    sample,
)

from mmdistill.core.errors import UserError
from mmdistill.det3d.box_batch import BoxBatch, PointBatch, fit_boxes
from mmdistill.det3d.object_bank import ObjectBank
from mmdistill.det3d.pseudo_store import PseudoLabelStore
from mmdistill.det3d.views import Similarity

ROWS = [(6, 1, 2, 0.2), (9, -3, 2, 1.1), (7.5, 4, 1, -0.4), (4, -1.5, 0, 0.3), (10, 3.5, 0, 2.0)]
SPEEDS = torch.tensor([[3.0, 0.5], [-4.0, 4.0], [0.0, 0.0], [0.5, -1.2], [-0.3, 0.9]])
LOTS = dict(Pedestrian=3, Cyclist=3, Car=3)


def moving(rows=ROWS, speeds=SPEEDS):
    """(N, 9) boxes and (N,) labels."""
    boxes, labels = boxes_of(rows)
    return torch.cat([boxes, speeds[: len(boxes)]], 1), labels


def moving_scene(frame, rows=ROWS, labeled=False, columns=5):
    """Points of one frame with a time delta (and what else), and its data sample."""
    from mmdet3d.structures import LiDARInstance3DBoxes

    boxes, labels = moving(rows)
    points = cloud(boxes[:, :7], labels, seed=frame)
    ahead = points[points[:, 3] > 15][::3].clone()
    ahead[:, :2] += boxes[:, 7:9]
    ahead[:, 3] += 3
    points = torch.cat([points, ahead])
    further = torch.rand(len(points), columns - 4, generator=torch.Generator().manual_seed(frame))
    made = sample(frame, labeled=labeled)
    if labeled:
        made.gt_instances_3d.bboxes_3d = LiDARInstance3DBoxes(boxes, box_dim=9)
        made.gt_instances_3d.labels_3d = labels
    return torch.cat([points, further], 1), made


class MovingTeacher(PerfectTeacher):
    """A perfect teacher that also reads velocities."""

    def read(self, points):
        """Instances of one cloud, boxes of 9 numbers, found in the order of their numbers."""
        from mmdet3d.structures import LiDARInstance3DBoxes

        found = super().read(points)
        marked = points[points[:, 3] > 15]
        code = marked[:, 3].round().long()
        start, end = (marked[code % 16 == role][:, :2] for role in (0, 3))
        order = code[code % 16 == 0].argsort(), code[code % 16 == 3].argsort()
        speeds = end[order[1]] - start[order[0]]
        boxes = torch.cat([found.bboxes_3d.tensor, speeds.view(-1, 2)], 1)
        found.bboxes_3d = LiDARInstance3DBoxes(boxes, box_dim=9)
        return found


@pytest.fixture
def model(host):
    """HSSDA around a tiny CenterPoint of 9 numbers and 5 columns, with the moving teacher."""

    def build(detector=None, **changes):
        torch.manual_seed(0)
        detector = detector or centerpoint(velocity=True, features=5)
        cfg = center_hssda_cfg(
            detector=detector, **{'scores': ('cls', 'view_iou'), 'thresholds': None, **changes}
        )
        made = initialised(host.HSSDA(**{k: v for k, v in cfg.items() if k != 'type'}))
        made.teacher.predict = MovingTeacher()
        return made

    return build


def scenes_of(model, *scenes):
    """The scene batch of ``(frame, rows, labeled)`` scenes."""
    made = [moving_scene(*scene) for scene in scenes]
    return model.read_batch(dict(points=[each[0] for each in made]), [each[1] for each in made])


# ------------------------------------------------------------------ views


@pytest.mark.parametrize(('flip', 'turn', 'grow'), list(itertools.product([False, True], repeat=3)))
def test_the_velocity_turns_with_the_scene(flip, turn, grow):
    """y -> -y, then a turn of 0.6, then 8 % larger; by hand."""
    angle, scale, mirror = 0.6 * turn, 1 + 0.08 * grow, -1 if flip else 1
    view = Similarity(torch.tensor([flip]), torch.tensor([angle]), torch.tensor([scale]))
    box = torch.tensor([[[10, 4, -1.5, 3.9, 1.6, 1.5, 0.25, 3.0, -2.0]]])
    vx, vy = 3.0, -2.0 * mirror
    expected = [
        scale * (math.cos(angle) * vx - math.sin(angle) * vy),
        scale * (math.sin(angle) * vx + math.cos(angle) * vy),
    ]
    moved = view.boxes(box)
    assert moved[0, 0, 7:].tolist() == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(moved[..., :7], view.boxes(box[..., :7]))
    torch.testing.assert_close(view.inverse().boxes(moved), box)


def random_views(count, seed=0):
    """Views of all kinds."""
    unit = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed))
    flip = torch.arange(count) % 2 == 1
    return Similarity(flip, (unit[:, 0] * 2 - 1) * math.pi, 0.8 + unit[:, 1] * 0.45)


def test_the_velocity_is_that_of_the_hosts_transforms():
    from mmdet3d.structures import LiDARInstance3DBoxes

    view = random_views(6)
    boxes = moving()[0].expand(6, -1, -1)
    for row, moved in enumerate(view.boxes(boxes)):
        reference = LiDARInstance3DBoxes(boxes[row].clone(), box_dim=9)
        if view.flip[row]:
            reference.flip('horizontal')
        reference.rotate(view.angle[row])
        reference.scale(float(view.scale[row]))
        torch.testing.assert_close(moved[:, 7:], reference.tensor[:, 7:], atol=1e-5, rtol=0)
        assert angle_gap(moved[:, 6], reference.tensor[:, 6]).max() < 1e-5


def test_an_object_arrives_where_its_moved_velocity_says():
    """Moving for 0.4 s and then changing the view is changing the view and then moving."""
    view, (boxes, _) = random_views(5), moving()
    boxes = boxes.expand(5, -1, -1)
    later = boxes.clone()
    later[..., :2] += 0.4 * boxes[..., 7:9]
    first = view.boxes(later)[..., :2]
    now = view.boxes(boxes)
    torch.testing.assert_close(first, now[..., :2] + 0.4 * now[..., 7:9], atol=1e-5, rtol=0)


@pytest.mark.parametrize('numbers', [8, 10, 12])
def test_numbers_behind_the_velocity_are_unchanged(numbers):
    boxes = torch.rand(3, 4, numbers)
    moved = random_views(3).boxes(boxes)
    assert moved.shape == boxes.shape
    start = 7 if numbers == 8 else 9
    assert torch.equal(moved[..., start:], boxes[..., start:])
    torch.testing.assert_close(moved[..., :7], random_views(3).boxes(boxes[..., :7]))


def test_an_unknown_velocity_stays_unknown_and_harms_nothing():
    boxes = moving()[0].expand(4, -1, -1).clone()
    boxes[:, 2, 7:] = torch.nan
    moved = random_views(4).boxes(boxes)
    assert moved[:, 2, 7:].isnan().all() and int(moved.isnan().sum()) == 8


# ------------------------------------------------------------------ batches and geometry


def test_batches_carry_the_velocity():
    boxes, labels = moving()
    batch = BoxBatch.from_lists([boxes, boxes[:0], boxes[1:3]], [labels, labels[:0], labels[1:3]])
    assert batch.boxes.shape == (3, 5, 9)
    for found, expected in zip(batch.lists(), (boxes, boxes[:0], boxes[1:3]), strict=True):
        assert torch.equal(found[0], expected)
    kept = batch.keep(batch.labels == 2) + batch.select(torch.tensor([2, 1, 0]))
    assert torch.equal(kept.lists()[2][0], torch.cat([boxes[1:2], boxes]))
    back = batch.select(torch.tensor([2])).scatter(torch.tensor([1]), 2)
    assert torch.equal(back.lists()[1][0], boxes[1:3]) and len(back.lists()[0][0]) == 0
    assert BoxBatch.empty(2, boxes).boxes.shape == (2, 0, 9)
    assert (BoxBatch.empty(3, boxes) + batch).boxes.shape == (3, 5, 9)


def test_boxes_are_cut_to_what_is_learned_and_never_filled_up():
    boxes, _ = moving()
    assert torch.equal(fit_boxes(boxes, 7, 'here'), boxes[:, :7])
    assert torch.equal(fit_boxes(boxes, 9, 'here'), boxes)
    with pytest.raises(UserError, match='frame 3: boxes of 7.*learns 9.*with_velocity=True'):
        fit_boxes(boxes[:, :7], 9, 'frame 3')


def test_geometry_does_not_look_at_velocities():
    from mmdistill.det3d import boxes as geometry

    boxes, _ = moving()
    other = boxes + torch.tensor([0.3, 0.2, 0.1, 0, 0, 0, 0.1, 9, 9])
    wild = boxes.clone()
    wild[:, 7:] = torch.tensor([1e6, torch.nan])
    points = torch.rand(500, 5) * torch.tensor([12, 10, 3, 1, 1]) - torch.tensor([0, 5, 2, 0, 0.0])
    for name in ('bev_iou', 'iou_3d', 'bev_overlap_area', 'bev_collides'):
        function = getattr(geometry, name)
        assert torch.equal(function(wild, other), function(boxes[:, :7], other[:, :7])), name
        assert bool((function(wild, other) > 0).any())
    inside = geometry.points_in_boxes(points[:, :3], wild)
    assert torch.equal(inside, geometry.points_in_boxes(points[:, :3], boxes[:, :7]))
    assert inside.any()


def test_store_keeps_velocities_through_rounds_and_checkpoints():
    boxes, labels = moving()
    store = PseudoLabelStore(box_dim=9)
    assert store.frame(3)[0].shape == (0, 9)
    found = dict(
        frames=torch.tensor([8, 3, 3, 8, 1]), boxes=boxes, labels=labels, scores=torch.ones(5)
    )
    store.update(found, 0)
    store.update({name: value[1:3] for name, value in found.items()}, 1)
    assert len(store) == 5
    assert torch.equal(store.frame(3)[0], boxes[1:3])
    assert torch.equal(store.frame(8)[0], boxes[[0, 3]])
    again = PseudoLabelStore(box_dim=9)
    again.load_state_dict(store.state_dict())
    assert torch.equal(again.frame(8)[0], boxes[[0, 3]])


# ------------------------------------------------------------------ the bank


def test_bank_pastes_objects_with_their_velocity():
    boxes, labels = moving()
    points, _ = moving_scene(4)
    bank = ObjectBank(LOTS, CLASSES, min_points=3, box_dim=9)
    assert bank.add_frame(4, points, boxes, labels) == 5
    empty = BoxBatch.empty(1, boxes)
    generators = [torch.Generator().manual_seed(0)]
    scene = PointBatch.from_list([points[:5] + 100])
    pasted, present = bank.paste(scene, empty, generators)
    found = {tuple(box[:2].tolist()): box for box in present.lists()[0][0]}
    assert len(found) == 5
    for box in boxes:
        assert torch.equal(found[tuple(box[:2].tolist())], box)
    # every column of the pasted points is that of the object's frame
    own = {tuple(row) for row in points[:, 3:].tolist()}
    crops = pasted.points[5:, 3:]
    assert len(crops) > 60 and {tuple(row) for row in crops.tolist()} <= own


def test_bank_refuses_scenes_of_other_boxes():
    boxes, labels = moving()
    points, _ = moving_scene(4)
    bank = ObjectBank(LOTS, CLASSES, min_points=3)
    bank.add_frame(4, points, boxes, labels)
    assert torch.equal(bank.boxes, boxes[:, :7])
    scene, generators = PointBatch.from_list([points]), [torch.Generator().manual_seed(0)]
    with pytest.raises(UserError, match='boxes of 7 numbers.*boxes of 9: set box_dim=9'):
        bank.paste(scene, BoxBatch.from_lists([boxes], [labels]), generators)
    with pytest.raises(UserError, match='object bank, frame 5.*7 numbers.*learns 9'):
        ObjectBank(LOTS, CLASSES, box_dim=9).add_frame(5, points, boxes[:, :7], labels)


def test_bank_in_a_pipeline(host):
    from mmdet3d.structures import LiDARInstance3DBoxes, LiDARPoints

    boxes, labels = moving()
    points, _ = moving_scene(4)
    paste = host.ObjectBankSample(CLASSES, sample_groups=LOTS, min_points=3, box_dim=9)
    paste.bank.add_frame(4, points, boxes[:3], labels[:3])
    paste.bind_dataset(object())
    results = dict(
        points=LiDARPoints(points.clone(), points_dim=5),
        gt_bboxes_3d=LiDARInstance3DBoxes(boxes[3:], box_dim=9),
        gt_labels_3d=labels[3:].numpy(),
    )
    done = paste.transform(results)
    assert done['gt_bboxes_3d'].tensor.shape == (5, 9) and done['points'].tensor.shape[1] == 5
    assert torch.equal(done['gt_bboxes_3d'].tensor[:2], boxes[3:])
    assert {tuple(b) for b in done['gt_bboxes_3d'].tensor[2:].tolist()} == {
        tuple(b) for b in boxes[:3].tolist()
    }


# ------------------------------------------------------------------ the method


def test_teacher_keeps_velocities_beyond_half_a_turn(model):
    """Angles are wrapped to [-pi, pi), speeds of 4 m/s are not."""
    made = model()
    weak, _ = made.teacher_predict(scenes_of(made, (0, ROWS, False)).points)
    torch.testing.assert_close(weak.lists()[0][0], moving()[0], atol=1e-4, rtol=0)
    assert float(weak.boxes[..., 7:].abs().max()) == pytest.approx(4, abs=1e-4)


def test_both_views_agree_on_the_velocity(model):
    made = model()
    scenes = scenes_of(made, (0, ROWS, False), (1, ROWS[:3], False))
    for step in range(5):
        made.cur_iter = step
        weak, other, scores = made.judge(scenes.points, scenes.frames, purpose=1)
        torch.testing.assert_close(other.boxes[..., 7:], weak.boxes[..., 7:], atol=2e-4, rtol=0)
        assert float(scores[..., 1][weak.valid].min()) > 0.999


def test_mined_and_soft_boxes_have_their_velocity_in_the_students_view(model):
    """Through store, selection and strong view: a box moves as its own markers do."""
    made = model(shuffle=None, low=None)
    made.filter.high.fill_(0.8)
    made.filter.low.fill_(0.5)
    scenes = scenes_of(made, (0, ROWS, True), (1, ROWS[:2], False), (2, ROWS, False))
    truth, labels = moving()
    parts = dict(frames=torch.tensor([1, 1]), boxes=truth[:2], labels=labels[:2])
    made.store.update(dict(parts, scores=torch.ones(2)), 0)
    turned = []
    for step in range(4):
        made.cur_iter = step
        target, _ = made.pseudo_labels(scenes)
        assert target.valid.sum(1).tolist() == [5, 2, 5]
        batch, samples, _ = made.student_batch(scenes, target, None)
        for points, each in zip(batch['points'], samples, strict=True):
            assert points.shape[1] == 5
            boxes = each.gt_instances_3d.bboxes_3d.tensor
            read = MovingTeacher().read(points).bboxes_3d.tensor
            gaps = (read[:, None, :2] - boxes[None, :, :2]).norm(dim=-1)
            assert bool((gaps.min(1).values < 1e-3).all()) and len(read) >= 2
            torch.testing.assert_close(read, boxes[gaps.argmin(1)], atol=1e-3, rtol=0)
            turned.append(float(boxes[0, 7]))
    assert len(set(turned)) == len(turned)


def test_a_round_stores_velocities_and_a_checkpoint_restores_them(model):
    made = model(thresholds=dict(init=dict(cls=0.5, view_iou=0.5)), match_iou=0.5)
    scenes = scenes_of(made, (0, ROWS[:1], True), (1, ROWS, False))
    records = made.mine(scenes)
    made.refresh(records)
    stored, labels, _ = made.store.frame(1)
    torch.testing.assert_close(stored, moving()[0], atol=1e-4, rtol=0)
    again = model()
    again.load_state_dict(made.state_dict())
    assert torch.equal(again.store.frame(1)[0], stored)
    assert torch.equal(again.kept_boxes(scenes).lists()[1][0], stored)


def test_detectors_and_data_sets_of_different_boxes(model):
    """A head of 7 numbers does not see velocities; one of 9 does not invent them."""
    still = model(detector=centerpoint(features=5))
    scenes = scenes_of(still, (0, ROWS, True), (1, ROWS, False))
    assert torch.equal(scenes.boxes.lists()[0][0], moving()[0][:, :7])
    assert still.box_dim == still.store.boxes.shape[1] == 7
    made = model(object_bank=dict(sample_groups=LOTS))
    assert made.box_dim == made.bank.box_dim == made.store.boxes.shape[1] == 9
    points, _ = moving_scene(0)
    flat = sample(6, *boxes_of(ROWS))
    with pytest.raises(UserError, match='frame 6: boxes of 7 numbers.*learns 9.*code_size=7'):
        made.read_batch(dict(points=[points]), [flat])


def test_training_with_velocities_and_sweeps(model):
    made = model(object_bank=dict(sample_groups=LOTS, min_points=3))
    made.filter.low.fill_(0.5)
    points, _ = moving_scene(4)
    made.bank.add_frame(4, points, *moving())
    scenes = [moving_scene(0, ROWS, True), moving_scene(1, ROWS, False)]
    losses = made.loss(dict(points=[s[0] for s in scenes]), [s[1] for s in scenes])
    sum(losses.values()).backward()
    grads = {n: p.grad for n, p in made.student.named_parameters()}
    assert all(each is not None and each.isfinite().all() for each in grads.values())
    velocity = [each for name, each in grads.items() if '.vel.' in name]
    assert velocity and all(each.abs().sum() > 0 for each in velocity)


# ------------------------------------------------------------------ points with more columns


@pytest.mark.parametrize('columns', [3, 4, 5, 7])
def test_only_coordinates_move(host, columns):
    """The official shuffle moves columns 1 to -2 of [b, x, y, z, i]: a time delta would move."""
    from mmdistill.det3d.semi_detector import SemiDet3D, mix_points, remove_points
    from mmdistill.det3d.shuffle_aug import PatchGrid

    points = torch.rand(400, columns) + torch.tensor([*(5.0, -3, -1), *(7.0,) * (columns - 3)])
    points[200:, 0] += 12
    number = torch.arange(400)
    owner = torch.arange(400) // 200
    view = random_views(2)
    assert torch.equal(view.points(points, owner)[:, 3:], points[:, 3:])
    grid = PatchGrid([0, -12.8, -3, 25.6, 12.8, 1])
    sigma = torch.tensor([[2, 0, 3, 1], [1, 0, 3, 2]])
    moved = grid.shuffle_points(points, owner, sigma)
    assert torch.equal(moved[:, 2:], points[:, 2:]) and not torch.equal(moved, points)
    cell = ((points[:, :2] - torch.tensor([0, -12.8])) / 0.4).long()
    coors = torch.stack([owner, number * 0, cell[:, 1], cell[:, 0]], 1)
    for voxels, counts in ((points, {}), (points[:, None], dict(num_points=number * 0 + 1))):
        done = grid.shuffle_voxels(dict(voxels=voxels, coors=coors, **counts), sigma, (64, 64))
        torch.testing.assert_close(done['voxels'].view(400, -1)[:, :2], moved[:, :2])
        assert torch.equal(done['voxels'].view(400, -1)[:, 2:], points[:, 2:])
    batch = PointBatch(points, owner, 2)
    boxes = BoxBatch.from_lists(
        [torch.tensor([[5.5, -2.5, -1, 0.5, 0.5, 2, 0.3]])] * 2, [torch.tensor([2])] * 2
    )
    left = remove_points(batch, boxes)
    rows = {tuple(row) for row in points.tolist()}
    assert 200 < len(left.points) < 400 and {tuple(row) for row in left.points.tolist()} <= rows
    mixed = mix_points(batch, [torch.Generator().manual_seed(row) for row in range(2)])
    assert {tuple(row) for row in mixed.points.tolist()} == rows
    range_only = type('Range', (), dict(point_cloud_range=[0, -12.8, -3, 25.6, 12.8, 1]))
    clouds = SemiDet3D.crop(range_only, PointBatch.from_list([points, points[:0]]))
    assert torch.equal(clouds[0], points) and clouds[1].shape == (1, columns)
    assert bool((clouds[1][0, 3:] == 0).all())


def test_anchors_of_seven_numbers_are_what_they_were(model):
    """PointPillars on data with velocities: cut as before."""
    made = model(detector=pointpillars(), scores=('cls', 'view_iou'), thresholds=None)
    made.teacher.predict = PerfectTeacher()
    scenes = [moving_scene(0, ROWS, True, 4), moving_scene(1, ROWS, False, 4)]
    losses = made.loss(dict(points=[s[0] for s in scenes]), [s[1] for s in scenes])
    assert made.box_dim == 7 and all(torch.stack(v).isfinite().all() for v in losses.values())
