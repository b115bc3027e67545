"""What every method shares: reading, removing, pasting, viewing, shuffling, predicting."""

import copy

import pytest
import torch
from det3d_scenes import (
    CLASSES,
    RANGE,
    PerfectTeacher,
    batch_of,
    box_row,
    boxes_of,
    cloud,
    initialised,
    pointpillars,
    sample,
)

from mmdistill.core.ema import ema_update
from mmdistill.core.errors import UserError
from mmdistill.det3d.box_batch import BoxBatch, PointBatch
from mmdistill.det3d.boxes import points_in_boxes

CARS = [(6.0, 3.0, 2, 0.2), (14.0, -5.0, 2, 1.1), (20.0, 4.0, 1, -0.4)]
WALKERS = [(5.0, -4.0, 0, 0.0), (12.0, 6.0, 0, 0.7), (18.0, -7.0, 2, 0.5)]
LOTS = dict(Pedestrian=3, Cyclist=3, Car=3)


@pytest.fixture
def semi(host):
    """Builds a method that learns from ground truth alone."""
    from mmdistill.det3d.semi_detector import SemiDet3D

    class TruthOnly(SemiDet3D):
        def pseudo_labels(self, scenes):
            return scenes.boxes, None

    def build(weight_seed=0, **changes):
        torch.manual_seed(weight_seed)
        cfg = dict(
            detector=pointpillars(),
            class_names=CLASSES,
            student_view=dict(flip_prob=0.5, rotation=(-0.785, 0.785), scale=(0.95, 1.05)),
        )
        model = TruthOnly(**{**cfg, **changes})
        return initialised(model)

    return build


STILL = dict(flip_prob=0.0)


def filled(model, frame=50):
    """Puts some objects into the model's bank."""
    rows = [(4, 9, 0, 0.0), (9, 8, 1, 0.5), (22, -9, 2, 1.0), (3, -9, 2, 0.0), (16, 9, 0, 0.2)]
    boxes, labels = boxes_of(rows)
    model.bank.add_frame(frame, cloud(boxes, labels), boxes, labels)
    return model


def in_order(points):
    """Points sorted by their coordinates, for comparing sets."""
    rows = sorted(points.tolist())
    return torch.tensor(rows)


# ------------------------------------------------------------------ reading


def test_batch_is_read_as_it_is(semi):
    inputs, samples = batch_of((7, CARS, True), (3, WALKERS, False), (9, [], True))
    scenes = semi().read_batch(inputs, samples)
    assert scenes.frames == [7, 3, 9] and scenes.labeled == [True, False, True]
    assert scenes.unlabeled_rows().tolist() == [1]
    boxes, labels = boxes_of(CARS)
    found, found_labels, weights = scenes.boxes.lists()[0]
    assert torch.equal(found, boxes) and torch.equal(found_labels, labels)
    assert weights.tolist() == [1.0] * 3
    assert [len(each[0]) for each in scenes.boxes.lists()] == [3, 0, 0]
    for given, read in zip(inputs['points'], scenes.points.lists(), strict=True):
        assert torch.equal(given, read)


def test_ground_truth_of_unlabelled_scenes_is_not_read(semi):
    """Even where a careless pipeline left it in the sample."""
    boxes, labels = boxes_of(CARS)
    leaky = sample(3, boxes, labels, labeled=False, hidden=(boxes.numpy(), labels.numpy()))
    scenes = semi().read_batch(dict(points=[cloud(boxes, labels)]), [leaky])
    assert scenes.boxes.valid.sum() == 0


# ------------------------------------------------------------------ points


def test_removal_deletes_points_of_valid_boxes_of_the_own_scene():
    from mmdistill.det3d.semi_detector import remove_points

    boxes, labels = boxes_of(CARS)
    scene = cloud(boxes, labels)
    points = PointBatch.from_list([scene, scene, scene])
    suppressed = BoxBatch.from_lists(
        [boxes[:2], boxes[:0], boxes[2:]], [labels[:2], labels[:0], labels[2:]]
    )
    suppressed = suppressed.keep(torch.tensor([[True, False]] * 3))
    left = remove_points(points, suppressed).lists()
    inside = points_in_boxes(scene[:, :3], boxes)
    for row, gone in ((0, inside[:, 0]), (1, inside[:, 0] & False), (2, inside[:, 2])):
        assert torch.equal(left[row], scene[~gone])
    assert len(left[0]) < len(scene) - 20
    nothing = BoxBatch.empty(3, boxes)
    assert torch.equal(remove_points(points, nothing).points, points.points)


def test_crop_keeps_the_range_and_one_point_of_an_empty_scene(semi):
    model = semi()
    inside = torch.tensor([[0.0, -12.8, -3, 0.1], [25.59, 12.79, 0.99, 0.2]])
    outside = torch.tensor([[25.6, 0, 0, 1], [5, 12.8, 0, 1], [5, 0, 1, 1], [-0.01, 0, 0, 1.0]])
    clouds = model.crop(PointBatch.from_list([torch.cat([outside, inside]), outside, outside[:0]]))
    assert torch.equal(clouds[0], inside)
    for empty in clouds[1:]:
        assert empty.shape == (1, 4)
        low, high = torch.tensor(RANGE[:3]), torch.tensor(RANGE[3:])
        assert bool(((empty[0, :3] >= low) & (empty[0, :3] < high)).all())
    voxels = model.student.data_preprocessor.voxelize(clouds, None)
    assert voxels['coors'][:, 0].unique().tolist() == [0, 1, 2]


@pytest.mark.parametrize('emptied', [0, 1, 2])
def test_a_scene_without_points_still_counts(semi, emptied):
    """B12: wherever in the batch it stands, all scenes get a feature map and a finite loss."""
    model = semi()
    inputs, samples = batch_of((1, CARS, True), (2, WALKERS, True), (3, CARS, True))
    scenes = model.read_batch(inputs, samples)
    huge = torch.tensor([[12.8, 0, -5, 60, 60, 10, 0]])
    lists = [huge if row == emptied else huge[:0] for row in range(3)]
    suppressed = BoxBatch.from_lists(lists, [torch.zeros(len(each)).long() for each in lists])
    batch, made, _ = model.student_batch(scenes, scenes.boxes, suppressed)
    assert [len(each) for each in batch['points']][emptied] == 1
    losses = model.student.loss(batch, made)
    assert all(bool(torch.stack(value).isfinite().all()) for value in losses.values())


# ------------------------------------------------------------------ the student's scene


def test_without_view_bank_and_shuffle_it_is_the_host(semi):
    """Same points in another order, the host's voxels of them, the ground truth as boxes."""
    model = semi(student_view=STILL)
    inputs, samples = batch_of((1, CARS, True), (2, WALKERS, True))
    scenes = model.read_batch(inputs, samples)
    batch, made, sigma = model.student_batch(scenes, scenes.boxes, None)
    assert sigma is None
    for given, points in zip(inputs['points'], batch['points'], strict=True):
        assert torch.equal(in_order(points), in_order(given))
        assert not torch.equal(points, given)
    host = model.student.data_preprocessor(dict(inputs=batch, data_samples=made), True)
    for key, value in host['inputs']['voxels'].items():
        assert torch.equal(batch['voxels'][key], value)
    for before, after in zip(samples, made, strict=True):
        old, new = before.gt_instances_3d, after.gt_instances_3d
        torch.testing.assert_close(new.bboxes_3d.tensor, old.bboxes_3d.tensor)
        assert torch.equal(new.labels_3d, old.labels_3d) and new.weights.tolist() == [1.0] * 3
        assert new is not old


def test_points_stay_in_their_boxes_in_every_view(semi):
    model = semi()
    inputs, samples = batch_of((1, CARS, True), (2, WALKERS, True))
    scenes = model.read_batch(inputs, samples)
    turned = set()
    for step in range(8):
        model.cur_iter = step
        batch, made, _ = model.student_batch(scenes, scenes.boxes, None)
        for points, done, rows in zip(batch['points'], made, (CARS, WALKERS), strict=True):
            boxes = done.gt_instances_3d.bboxes_3d.tensor
            before, _ = boxes_of(rows)
            inner = points[(points[:, 3] == 0.5)]
            assert int(points_in_boxes(inner[:, :3], boxes).sum()) <= 20 * len(before)
            counted = points_in_boxes(inner[:, :3], boxes).sum(0)
            reach = (boxes[:, :2] - torch.tensor([12.8, 0])).abs().amax(1) < 10
            assert bool((counted[reach] == 20).all())
            turned.add(round(float(boxes[0, 6]), 3))
    assert len(turned) == 16


def test_boxes_leaving_the_range_take_their_weight_along(semi):
    """B2: dropping a box in the middle shifts no weight to another."""
    model = semi(student_view=dict(rotation=(0.6, 0.6)))
    rows = [(6, 0, 2), (3, 12, 2), (20, -4, 0), (24, 9, 2), (10, 2, 1)]
    inputs, samples = batch_of((1, rows, True))
    scenes = model.read_batch(inputs, samples)
    weights = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.5]])
    _, made, _ = model.student_batch(scenes, scenes.boxes.with_weights(weights), None)
    done = made[0].gt_instances_3d
    cos, sin = torch.tensor(0.6).cos(), torch.tensor(0.6).sin()
    expected = []
    for index, (x, y, label) in enumerate(rows):
        place = (float(x * cos - y * sin), float(x * sin + y * cos))
        if 0 <= place[0] < 25.6 and -12.8 <= place[1] < 12.8:
            expected.append(
                (label, pytest.approx(0.1 * (index + 1)), pytest.approx(place[0], abs=1e-4))
            )
    assert 1 < len(expected) < len(rows)
    found = zip(
        done.labels_3d.tolist(),
        done.weights.tolist(),
        done.bboxes_3d.tensor[:, 0].tolist(),
        strict=True,
    )
    assert list(found) == expected


def student_scene(model, frames, step=3, seed=None):
    """{frame: (points, boxes, voxel centres)} of a student batch in the given order."""
    model.cur_iter = step
    rows = {1: CARS, 2: WALKERS, 3: CARS[:1], 4: []}
    inputs, samples = batch_of(*((frame, rows[frame], frame != 2) for frame in frames))
    scenes = model.read_batch(inputs, samples)
    batch, made, sigma = model.student_batch(scenes, scenes.boxes, None)
    sigma = [[0, 1, 2, 3]] * len(frames) if sigma is None else sigma.tolist()
    return {
        frame: (points, done.gt_instances_3d.bboxes_3d.tensor, order)
        for frame, points, done, order in zip(frames, batch['points'], made, sigma, strict=True)
    }


def test_a_frame_gets_one_view_in_an_iteration_wherever_it_stands(semi):
    """Not of batch order, company or rank: a function of (seed, iteration, frame)."""
    options = dict(object_bank=dict(sample_groups=LOTS), shuffle=dict(unshuffle_at='neck'))
    model = filled(semi(**options))
    together = student_scene(model, [1, 2, 3, 4])
    shuffled = [student_scene(model, order) for order in ([3, 1], [2, 4, 1, 3], [2])]
    shuffled.append(student_scene(filled(semi(weight_seed=5, **options)), [4, 2]))
    for other in shuffled:
        for frame, parts in other.items():
            for one, two in zip(parts, together[frame], strict=True):
                torch.testing.assert_close(one, two, rtol=0, atol=0)
    torch.manual_seed(123)
    assert torch.equal(student_scene(model, [1])[1][0], together[1][0])


def test_views_differ_between_iterations_frames_and_seeds(semi):
    model = semi()
    base = student_scene(model, [1, 3])
    assert not torch.equal(base[1][1][:1], base[3][1][:1])
    assert not torch.equal(student_scene(model, [1], step=4)[1][1], base[1][1])
    assert not torch.equal(student_scene(semi(seed=1), [1])[1][1], base[1][1])


def test_drawing_views_leaves_the_global_generator_alone(semi):
    model = filled(semi(object_bank=dict(sample_groups=LOTS)))
    torch.manual_seed(9)
    before = torch.get_rng_state()
    student_scene(model, [1, 2])
    assert torch.equal(torch.get_rng_state(), before)


# ------------------------------------------------------------------ ground planes


def test_objects_stand_on_the_plane_of_their_own_frame(semi):
    """A frame without a plane pastes at the objects' own height; its neighbours do not care."""
    groups = dict(sample_groups=LOTS, use_ground_plane=True, min_points=1)
    model = filled(semi(object_bank=groups, student_view=STILL))

    def heights(*planes):
        points = [cloud(*boxes_of([])) for _ in planes]
        samples = [sample(40 + row, plane=plane) for row, plane in enumerate(planes)]
        scenes = model.read_batch(dict(points=points), samples)
        _, made, _ = model.student_batch(scenes, scenes.boxes, None)
        return [each.gt_instances_3d.bboxes_3d.tensor[:, 2] for each in made]

    own, sunk = -1.7, [0.0, 0.0, 1.0, 2.5]
    both = heights(sunk, None)
    assert len(both[0]) == len(both[1]) == 5
    torch.testing.assert_close(both[0], torch.full((5,), -2.5))
    torch.testing.assert_close(both[1], torch.full((5,), own))
    torch.testing.assert_close(heights(sunk)[0], torch.full((5,), -2.5))
    model.use_ground_plane = False
    torch.testing.assert_close(heights(sunk)[0], torch.full((5,), own))


# ------------------------------------------------------------------ shuffle


def test_labelled_scenes_are_not_shuffled(semi):
    """hssda fact 6 and 9: the identity for labelled scenes, any permutation else, boxes stay."""
    model = semi(shuffle=dict(unshuffle_at='neck'), student_view=STILL)
    uniform = torch.rand(24000, 5, generator=torch.Generator().manual_seed(0))
    labeled = [row % 2 == 0 for row in range(24000)]
    sigma = model.draw_shuffle(uniform, labeled)
    assert torch.equal(sigma[::2], torch.arange(4).expand(12000, 4))
    code = (sigma[1::2] * torch.tensor([64, 16, 4, 1])).sum(1)
    counts = code.unique(return_counts=True)[1]
    assert len(counts) == 24 and int(counts.min()) > 400 and int(counts.max()) < 600
    plain = semi(student_view=STILL)
    with_shuffle, without = (student_scene(each, [1, 2]) for each in (model, plain))
    for frame in (1, 2):
        assert torch.equal(with_shuffle[frame][1], without[frame][1])


@pytest.mark.parametrize(('prob', 'share'), [(0.0, 0.0), (0.5, 0.5 * 23 / 24), (1.0, 23 / 24)])
def test_probability_of_the_shuffle(semi, prob, share):
    model = semi(shuffle=dict(unshuffle_at='neck', prob=prob))
    uniform = torch.rand(4000, 5, generator=torch.Generator().manual_seed(0))
    sigma = model.draw_shuffle(uniform, [False] * 4000)
    moved = (sigma != torch.arange(4)).any(1).float().mean()
    assert float(moved) == pytest.approx(share, abs=0.02)


def test_shuffled_voxels_reach_the_student_and_labelled_ones_are_the_plain_ones(semi):
    model = semi(shuffle=dict(unshuffle_at='neck'), student_view=STILL)
    inputs, samples = batch_of((1, CARS, True), (2, WALKERS, False))
    scenes = model.read_batch(inputs, samples)
    batch, _, sigma = model.student_batch(scenes, scenes.boxes, None)
    plain = model.student.data_preprocessor.voxelize(batch['points'], None)
    expected = model.patches.shuffle_voxels(plain, sigma, (64, 64))
    first = plain['coors'][:, 0] == 0
    assert sigma[0].tolist() == [0, 1, 2, 3] and sigma[1].tolist() != [0, 1, 2, 3]
    for key in ('voxels', 'coors', 'num_points'):
        assert torch.equal(batch['voxels'][key], expected[key])
        assert torch.equal(batch['voxels'][key][first], plain[key][first])
    assert not torch.equal(batch['voxels']['coors'], plain['coors'])


@pytest.mark.parametrize('place', ['middle_encoder', 'backbone', 'neck'])
def test_pillar_hook_equals_unshuffling_by_hand(semi, place):
    from mmdistill.det3d.shuffle_aug import unshuffled_at

    model = semi(shuffle=dict(unshuffle_at=place)).eval()
    student, grid = model.student, model.patches
    inputs, samples = batch_of((1, CARS, False), (2, WALKERS, False))
    scenes = model.read_batch(inputs, samples)
    batch, _, sigma = model.student_batch(scenes, scenes.boxes, None)
    voxels = batch['voxels']

    def fresh():
        # the host's pillar encoder writes into its input
        return dict(voxels={key: value.clone() for key, value in voxels.items()})

    with torch.no_grad(), unshuffled_at(student, place, grid, sigma):
        hooked = student.extract_feat(fresh())
    with torch.no_grad():
        plain = student.extract_feat(fresh())
        x = student.voxel_encoder(voxels['voxels'], voxels['num_points'], voxels['coors'])
        x = student.middle_encoder(x, voxels['coors'], 2)
        if place == 'middle_encoder':
            x = grid.unshuffle_dense(x, sigma)
        x = student.backbone(x)
        if place == 'backbone':
            x = tuple(grid.unshuffle_dense(each, sigma) for each in x)
        x = student.neck(x)
        if place == 'neck':
            x = [grid.unshuffle_dense(each, sigma) for each in x]
    assert len(hooked) == len(x) == 1
    assert torch.equal(hooked[0], x[0])
    assert not torch.allclose(hooked[0], plain[0])


def test_odd_maps_are_refused_with_the_place_before_training(semi):
    with pytest.raises(UserError, match='voxel grid of 60 x 60.*shuffle.grid'):
        semi(detector=pointpillars(rows=60, columns=60), shuffle=dict(grid=(8, 8)))


def test_an_unknown_place_names_the_submodules_before_training(semi):
    with pytest.raises(UserError, match="'midle_encoder'.*middle_encoder"):
        semi(shuffle=dict(unshuffle_at='midle_encoder'))


# ------------------------------------------------------------------ teacher


def test_teacher_predicts_as_the_plain_detector(semi):
    detector = pointpillars()
    detector['data_preprocessor']['voxel_layer']['max_voxels'] = (60, 4096)  # training, testing
    model = semi(detector=detector, teacher_test_cfg=dict(score_thr=0.0, max_num=7))
    inputs, samples = batch_of((1, CARS, False), (2, [], False))
    found, extra = model.teacher_predict(PointBatch.from_list(inputs['points']))
    plain = copy.deepcopy(model.teacher)
    plain.bbox_head.test_cfg.update(score_thr=0.0, max_num=7)
    data = plain.data_preprocessor(dict(inputs=inputs, data_samples=samples), False)
    expected = plain.predict(data['inputs'], data['data_samples'])
    assert not extra and found.valid.sum(1).tolist() == [7, 7]
    for row, (boxes, labels, scores) in enumerate(found.lists()):
        instances = expected[row].pred_instances_3d
        torch.testing.assert_close(boxes[:, :6], instances.bboxes_3d.tensor[:, :6])
        assert torch.equal(labels, instances.labels_3d)
        assert torch.equal(scores, instances.scores_3d)
        gap = (boxes[:, 6] - instances.bboxes_3d.tensor[:, 6]) / (2 * torch.pi)
        assert float((gap - gap.round()).abs().max()) < 1e-5
        assert bool(((boxes[:, 6] >= -torch.pi) & (boxes[:, 6] < torch.pi)).all())


def test_teacher_test_cfg_is_put_back(semi):
    model = semi(teacher_test_cfg=dict(score_thr=0.77))
    seen = []

    def predict(inputs, data_samples, **kwargs):
        seen.append(model.teacher.bbox_head.test_cfg['score_thr'])
        raise RuntimeError('boom')

    model.teacher.predict = predict
    with pytest.raises(RuntimeError, match='boom'):
        model.teacher_predict(PointBatch.from_list([cloud(*boxes_of(CARS))]))
    assert seen == [0.77] and model.teacher.bbox_head.test_cfg['score_thr'] == 0.1
    assert model.student.bbox_head.test_cfg['score_thr'] == 0.1


def test_unknown_entries_of_teacher_test_cfg_are_refused(semi):
    with pytest.raises(UserError, match='score_threshold.*score_thr'):
        semi(teacher_test_cfg=dict(score_threshold=0.3))


def test_teacher_is_in_eval_mode_without_gradient_whatever_the_loop_does(semi):
    """hssda fact 28."""
    model = semi().train()
    assert model.student.training and not any(m.training for m in model.teacher.modules())
    modes = []
    handle = model.teacher.backbone.register_forward_hook(
        lambda module, *_: modes.append((module.training, torch.is_grad_enabled()))
    )
    before = {name: buffer.clone() for name, buffer in model.teacher.named_buffers()}
    model.teacher_predict(PointBatch.from_list([cloud(*boxes_of(CARS))]))
    handle.remove()
    assert modes == [(False, False)]
    assert all(torch.equal(buffer, before[n]) for n, buffer in model.teacher.named_buffers())


def test_only_the_student_gets_gradients_and_an_optimizer(semi):
    from mmengine.optim import build_optim_wrapper

    model = semi()
    losses = model.loss(*batch_of((1, CARS, True), (2, WALKERS, False)))
    sum(sum(value) for value in losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.student.parameters())
    assert all(p.grad is None and not p.requires_grad for p in model.teacher.parameters())
    cfg = dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=1e-3),
        constructor='mmdistill.StudentOptimWrapperConstructor',
    )
    groups = build_optim_wrapper(model, cfg).optimizer.param_groups
    listed = {id(p) for group in groups for p in group['params']}
    assert listed == {id(p) for p in model.student.parameters()}


def test_ema_moves_parameters_and_bn_statistics(semi):
    """hssda fact 26: teacher = keep old + (1 - keep) student, also for running statistics."""
    model = semi()
    other = semi(weight_seed=1)
    for _ in range(2):
        other.loss(*batch_of((1, CARS, True)))
    model.student.load_state_dict(other.student.state_dict())
    old = {name: value.clone() for name, value in model.teacher.state_dict().items()}
    new = model.student.state_dict()
    ema_update(model.teacher, model.student, 0.7, buffers='ema')
    moved = 0
    for name, value in model.teacher.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.7 * old[name] + 0.3 * new[name], msg=name)
            moved += int('running' in name and not torch.equal(value, old[name]))
        else:
            assert torch.equal(value, new[name]) and int(value) == 2, name
    assert moved > 4


# ------------------------------------------------------------------ losses


def test_loss_is_the_stock_detectors_loss_of_the_same_batch(semi):
    from mmdet3d.registry import MODELS
    from mmengine.config import ConfigDict

    model = semi()
    inputs, samples = batch_of((1, CARS, True), (2, WALKERS, True))
    stock = MODELS.build(ConfigDict(pointpillars())).train()
    stock.load_state_dict(model.student.state_dict(), strict=True)
    scenes = model.read_batch(inputs, samples)
    batch, made, _ = model.student_batch(scenes, scenes.boxes, None)
    expected = stock.loss(batch, made)
    found = model(inputs, samples, mode='loss')
    assert set(found) == set(expected) == {'loss_cls', 'loss_bbox', 'loss_dir'}
    for name, value in expected.items():
        assert torch.equal(torch.stack(found[name]), torch.stack(value))


def test_loss_twice_is_the_same_and_leaves_everything_but_bn_statistics(semi):
    model = filled(semi(object_bank=dict(sample_groups=LOTS), shuffle=dict(unshuffle_at='neck')))
    inputs, samples = batch_of((1, CARS, True), (2, WALKERS, False))
    given = [points.clone() for points in inputs['points']]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = model.loss(inputs, samples)
    second = model.loss(inputs, samples)
    for name, value in first.items():
        assert torch.equal(torch.stack(value), torch.stack(second[name])), name
    changed = {n for n, v in model.state_dict().items() if not torch.equal(v, before[n])}
    running = ('running_mean', 'running_var', 'num_batches_tracked')
    assert changed and all(n.startswith('student.') and n.endswith(running) for n in changed)
    assert model.cur_iter == 0
    for points, old in zip(inputs['points'], given, strict=True):
        assert torch.equal(points, old)
    boxes, _ = boxes_of(CARS)
    assert torch.equal(samples[0].gt_instances_3d.bboxes_3d.tensor, boxes)


def test_testing_is_the_branch_as_a_plain_detector(semi):
    inputs, samples = batch_of((1, CARS, True))
    answers = {}
    for branch in ('student', 'teacher'):
        model = semi(semi_test_cfg=dict(predict_on=branch)).eval()
        torch.nn.init.normal_(model.teacher.bbox_head.conv_cls.weight)
        data = dict(inputs=dict(inputs), data_samples=copy.deepcopy(samples))
        with torch.no_grad():
            answers[branch] = model.test_step(data)[0].pred_instances_3d
            plain = copy.deepcopy(getattr(model, branch))
            expected = plain.test_step(dict(inputs=dict(inputs), data_samples=samples))
        expected = expected[0].pred_instances_3d
        assert torch.equal(answers[branch].scores_3d, expected.scores_3d)
        assert torch.equal(answers[branch].bboxes_3d.tensor, expected.bboxes_3d.tensor)
    assert len(answers['student'].scores_3d) != len(answers['teacher'].scores_3d)


# ------------------------------------------------------------------ building and loading


def test_config_is_not_changed_and_only_the_head_is_exchanged(semi):
    from mmdistill.det3d.soft_heads import SoftAnchor3DHead

    cfg = pointpillars()
    before = copy.deepcopy(cfg)
    model = semi(detector=cfg, head_cfg=dict(loss_norm='sample', weight_dir=True))
    assert cfg == before
    for branch in (model.student, model.teacher):
        assert isinstance(branch.bbox_head, SoftAnchor3DHead)
        assert branch.bbox_head.loss_norm == 'sample' and branch.bbox_head.weight_dir


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            dict(detector=pointpillars(head='SSD3DHead')),
            "'SSD3DHead'.*Anchor3DHead.*PointPillars",
        ),
        (dict(student_view=dict(flip=0.5)), 'flip'),
        (dict(shuffle=dict(gird=(2, 2))), 'gird'),
        (dict(shuffle=dict(prob=1.5)), r'shuffle.prob .* \[0, 1\], got 1.5'),
        (dict(student_view=dict(rotation=(0.5, -0.5))), 'rotation must be an increasing pair'),
        (dict(object_bank=dict(sample_groups=dict(Car=-1))), "negative, got {'Car': -1}"),
        (dict(object_bank=dict(sample_group=LOTS)), 'sample_group'),
        (dict(object_bank=dict(sample_groups=dict(Tram=1))), 'Tram'),
        (dict(semi_test_cfg=dict(predict='student')), 'predict'),
        (dict(head_cfg=dict(loss_normalization='batch')), 'loss_normalization'),
        (dict(burn_in=3), 'burn_in'),
    ],
)
def test_unknown_keys_are_named(semi, changes, message):
    with pytest.raises((UserError, TypeError), match=message):
        semi(**changes)


def test_a_plain_checkpoint_fills_both_branches(semi):
    from mmdet3d.registry import MODELS
    from mmengine.config import ConfigDict

    torch.manual_seed(4)
    plain = MODELS.build(ConfigDict(pointpillars()))
    model = semi()
    model.load_state_dict(plain.state_dict(), strict=True)
    for branch in (model.student, model.teacher):
        for name, value in plain.state_dict().items():
            assert torch.equal(branch.state_dict()[name], value), name
    exported = model.branch_state_dict('teacher')
    MODELS.build(ConfigDict(pointpillars())).load_state_dict(exported, strict=True)


# ------------------------------------------------------------------ SECOND through spconv


@pytest.fixture
def second_model(semi):
    """A method around a tiny SECOND, unshuffled at the official place."""
    pytest.importorskip('spconv.pytorch')
    from det3d_scenes import second

    return semi(detector=second(), shuffle=dict(unshuffle_at='middle_encoder'), student_view=STILL)


def test_second_loads_a_plain_checkpoint_with_every_sparse_kernel(second_model, tmp_path):
    """hssda fact 27 and 5.2.3: kernels without metadata would be permuted without a word."""
    from det3d_scenes import second
    from mmdet3d.registry import MODELS
    from mmengine.config import ConfigDict
    from mmengine.runner.checkpoint import load_checkpoint, save_checkpoint

    torch.manual_seed(11)
    plain = MODELS.build(ConfigDict(second()))
    path = str(tmp_path / 'plain.pth')
    state = plain.state_dict()
    save_checkpoint(dict(state_dict=state), path)
    load_checkpoint(second_model, path, map_location='cpu', strict=True)
    kernels = 0
    for branch in (second_model.student, second_model.teacher):
        for name, value in state.items():
            assert torch.equal(branch.state_dict()[name], value), name
            kernels += value.dim() == 5
    assert kernels == 2 * 9
    again = str(tmp_path / 'semi.pth')
    save_checkpoint(dict(state_dict=second_model.state_dict()), again)
    with torch.no_grad():
        for parameter in second_model.parameters():
            parameter.zero_()
    load_checkpoint(second_model, again, map_location='cpu', strict=True)
    for name, value in state.items():
        assert torch.equal(second_model.teacher.state_dict()[name], value), name


def test_second_is_unshuffled_between_sparse_and_dense_part(second_model):
    from mmdistill.det3d.shuffle_aug import unshuffled_at

    model = second_model.eval()
    student, grid = model.student, model.patches
    boxes, labels = boxes_of([(6, 2, 2), (9, -3, 0)])
    small = model.point_cloud_range
    points = [cloud(boxes, labels, seed=row, point_range=small) for row in range(2)]
    scenes = model.read_batch(dict(points=points), [sample(row, labeled=False) for row in range(2)])
    batch, _, sigma = model.student_batch(scenes, scenes.boxes, None)
    voxels = batch['voxels']
    with torch.no_grad():
        with unshuffled_at(student, 'middle_encoder', grid, sigma):
            hooked = student.extract_feat(batch)
        x = student.voxel_encoder(voxels['voxels'], voxels['num_points'], voxels['coors'])
        x = student.middle_encoder(x, voxels['coors'], 2)
        by_hand = student.neck(student.backbone(grid.unshuffle_dense(x, sigma)))
    assert torch.equal(hooked[0], by_hand[0])


def test_second_trains_on_the_cpu(second_model):
    """Loss and finite gradients of every kernel, through the unshuffled sparse encoder."""
    from mmdistill.det3d.compat import fix_spconv_cpu_stream

    assert fix_spconv_cpu_stream()
    boxes, labels = boxes_of([(6, 2, 2), (9, -3, 0)])
    points = [
        cloud(boxes, labels, seed=row, point_range=second_model.point_cloud_range)
        for row in range(2)
    ]
    samples = [sample(0, boxes, labels), sample(1, labeled=False)]
    losses = second_model.loss(dict(points=points), samples)
    sum(sum(value) for value in losses.values()).backward()
    for name, parameter in second_model.student.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        if parameter.dim() == 5:
            assert parameter.grad.abs().sum() > 0, name


def test_sparse_backbone_notices_the_shuffle_only_near_seams(semi):
    """hssda fact 8: without absolute coordinates, cells 40 voxels from every seam are equal."""
    pytest.importorskip('spconv.pytorch')
    from det3d_scenes import second
    from mmdet3d.registry import MODELS
    from mmengine.config import ConfigDict

    torch.manual_seed(0)
    encoder = MODELS.build(ConfigDict(second(rows=256, columns=256)['middle_encoder'])).eval()
    model = semi(detector=second(rows=256, columns=256), shuffle={})
    generator = torch.Generator().manual_seed(0)
    dense = torch.rand(2, 41, 256, 256, generator=generator) < 0.002
    coors = dense.nonzero().int()
    features = torch.rand(len(coors), 4, generator=generator)
    sigma = torch.tensor([[2, 0, 3, 1], [1, 0, 3, 2]])
    moved = model.patches.shuffle_voxels(
        dict(coors=coors, voxels=torch.zeros(len(coors), 1, 4), num_points=torch.zeros(len(coors))),
        sigma,
        (256, 256),
    )['coors']
    with torch.no_grad():
        plain = encoder(features, coors, 2)
        back = model.patches.unshuffle_dense(encoder(features, moved, 2), sigma)
    gap = (plain - back).abs().amax((0, 1))
    index = torch.arange(16).repeat(2)
    distance = torch.minimum(index, 15 - index)
    near = torch.minimum(distance[:, None], distance[None])
    assert plain.shape[-2:] == (32, 32) and float(plain.abs().max()) > 0.1
    assert float(gap[near >= 5].max()) < 1e-5
    assert float(gap[near == 0].max()) > 1e-2


# ------------------------------------------------------------------ the perfect teacher itself


def test_perfect_teacher_reads_boxes_in_any_view():
    from mmdistill.det3d.views import Similarity

    boxes, labels = boxes_of(CARS)
    view = Similarity(torch.tensor([True]), torch.tensor([0.5]), torch.tensor([1.1]))
    points = cloud(boxes, labels)
    moved = view.points(points, torch.zeros(len(points), dtype=torch.long))
    for seen, expected in ((points, boxes), (moved, view.boxes(boxes[None])[0])):
        found = PerfectTeacher().read(seen)
        torch.testing.assert_close(found.bboxes_3d.tensor, expected, atol=1e-4, rtol=0)
        assert torch.equal(found.labels_3d, labels)
    assert len(box_row(0, 0)) == 7
