"""HSSDA on CenterPoint, pillars and voxels: the facts that a detector can break, and a training."""

import copy
from pathlib import Path

import pytest
import torch
from centerpoint_cfg import center_hssda_cfg, centerpoint, centerpoint_voxel
from det3d_scenes import (
    LABELLED,
    PerfectTeacher,
    batch_of,
    boxes_of,
    cloud,
    initialised,
    sample,
)
from mining_ranks import training
from mmengine.config import ConfigDict
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope

from mmdistill.core import launch
from mmdistill.core.ema import ema_update
from mmdistill.core.errors import UserError
from mmdistill.det3d.boxes import bev_iou, points_in_boxes
from mmdistill.det3d.shuffle_aug import unshuffled_at

CONFIGS = Path(__file__).resolve().parents[2] / 'configs/hssda'
EVERY_CONFIG = sorted(CONFIGS.glob('*centerpoint*.py'))
NEAR = [(6, 1, 2, 0.2), (9, -3, 2, 1.1), (7.5, 4, 1, -0.4), (4, -1.5, 0, 0.3), (10, 3.5, 0, 2.0)]
MOVED = torch.tensor([[2, 0, 3, 1], [1, 0, 3, 2]])
STILL = dict(flip_prob=0.0)


class PeakTeacher(PerfectTeacher):
    """A perfect teacher whose heatmap peaks are its scores."""

    def read(self, points):
        """Instances of one cloud."""
        found = super().read(points)
        found.peak_scores_3d = found.scores_3d.clone()
        return found


@pytest.fixture
def model(host):
    """HSSDA around a tiny CenterPoint, with its own teacher or a perfect one."""

    def build(score=None, high=None, low=None, weight_seed=0, **changes):
        torch.manual_seed(weight_seed)
        cfg = center_hssda_cfg(**changes)
        made = initialised(host.HSSDA(**{k: v for k, v in cfg.items() if k != 'type'}))
        if score is not None:
            made.teacher.predict = PeakTeacher(score)
        if high is not None:
            made.filter.high.fill_(high)
            made.filter.low.fill_(low)
        return made

    return build


@pytest.fixture
def voxel_model(model):
    """The same on voxels, unshuffled at the official place."""
    pytest.importorskip('spconv.pytorch')

    def build(**changes):
        shuffle = dict(unshuffle_at='middle_encoder')
        return model(detector=centerpoint_voxel(), shuffle=shuffle, **changes)

    return build


def near_batch(model, *labeled):
    """Inputs and samples of scenes with points inside the model's range."""
    boxes, labels = boxes_of(NEAR)
    points, samples = [], []
    for row, known in enumerate(labeled):
        points.append(cloud(boxes, labels, seed=row, point_range=model.point_cloud_range))
        truth = (boxes, labels) if known else boxes_of([])
        samples.append(sample(row, *truth, labeled=known))
    return dict(points=points), samples


# ------------------------------------------------------------------ shuffle


def by_hand(detector, voxels, grid, sigma, place):
    """The detector's feature maps, its parts called one by one."""
    x = detector.pts_voxel_encoder(voxels['voxels'], voxels['num_points'], voxels['coors'])
    x = detector.pts_middle_encoder(x, voxels['coors'], len(sigma))
    for name in ('middle_encoder', 'backbone', 'neck'):
        if name != 'middle_encoder':
            x = getattr(detector, f'pts_{name}')(x)
        if name == place:
            parts = x if isinstance(x, (tuple, list)) else [x]
            parts = [grid.unshuffle_dense(each, sigma) for each in parts]
            x = parts if isinstance(x, (tuple, list)) else parts[0]
    return x


def assert_hook_is_by_hand(made, place):
    """The hook at ``place`` equals the parts called by hand, and does change the features."""
    student, grid = made.eval().student, made.patches
    inputs, samples = near_batch(made, False, False)
    scenes = made.read_batch(inputs, samples)
    batch, _, sigma = made.student_batch(scenes, scenes.boxes, None)

    def fresh():
        # the host's pillar encoder writes into its input
        return dict(voxels={key: value.clone() for key, value in batch['voxels'].items()})

    with torch.no_grad(), unshuffled_at(student, place, grid, sigma):
        hooked = student.extract_feat(fresh(), [])[1]
    with torch.no_grad():
        plain = student.extract_feat(fresh(), [])[1]
        expected = by_hand(student, fresh()['voxels'], grid, sigma, place)
    assert torch.equal(hooked[0], expected[0])
    assert not torch.allclose(hooked[0], plain[0])


@pytest.mark.parametrize('place', ['middle_encoder', 'backbone', 'neck'])
def test_pillars_are_unshuffled_at_every_place(model, place):
    assert_hook_is_by_hand(model(shuffle=dict(unshuffle_at=place)), place)


def test_voxels_are_unshuffled_between_sparse_and_dense_part(voxel_model):
    assert_hook_is_by_hand(voxel_model(), 'middle_encoder')


@pytest.mark.parametrize(
    ('place', 'message'),
    [
        ('backbone', r'output of backbone, level 1 of 17 x 16 \(y, x\) cells .* 2 x 2 '),
        ('neck', None),
        ('middle_encoder', None),
    ],
)
def test_a_level_of_pillars_that_cannot_be_cut_is_refused_before_training(model, place, message):
    """hssda fact 7: 68 pillars make levels of 34 and 17 cells, and a neck of 34."""

    def build():
        return model(detector=centerpoint(rows=68), shuffle=dict(unshuffle_at=place))

    if message is None:
        assert_hook_is_by_hand(build(), place)
        return
    with pytest.raises(UserError, match=message + r'.*voxel_size and shuffle\.unshuffle_at'):
        build()


def test_a_level_of_voxels_that_cannot_be_cut_is_refused_before_training(model):
    pytest.importorskip('spconv.pytorch')
    detector = centerpoint_voxel(rows=136)
    with pytest.raises(UserError, match='68 x 64 .*8 voxels of a cell.*middle_encoder.*size'):
        model(detector=detector, shuffle=dict(unshuffle_at='middle_encoder'))


def test_a_level_that_cannot_be_cut_in_training_is_named_too(model):
    """Places that nothing is known of before training."""
    made = model(shuffle=dict(unshuffle_at='backbone')).eval()
    odd = torch.zeros(2, 8, 68, 64)
    with torch.no_grad(), unshuffled_at(made.student, 'backbone', made.patches, MOVED):  # noqa: SIM117
        with pytest.raises(UserError, match=r'output of backbone, level 1 of 17 x 16 .*voxel_size'):
            made.student.pts_backbone(odd)


def test_a_voxel_grid_that_cannot_be_cut_is_refused_before_training(model):
    with pytest.raises(UserError, match='voxel grid of 60 x 60.*shuffle.grid'):
        model(detector=centerpoint(rows=60, columns=60), shuffle=dict(grid=(8, 8)))
    with pytest.raises(UserError, match="'nek'.*pts_neck"):
        model(shuffle=dict(unshuffle_at='nek'))


# ------------------------------------------------------------------ losses and levels


def test_loss_is_the_stock_centerpoints_on_the_same_batch(model):
    """hssda facts 23 and 24, with velocities, as the host's head wants them."""
    from mmdet3d.registry import MODELS
    from mmdet3d.structures import LiDARInstance3DBoxes

    made = model(detector=centerpoint(velocity=True), shuffle=None)
    inputs, samples = batch_of((1, NEAR, True), (2, NEAR[:3], True), (3, [], True))
    for each in samples:
        boxes = each.gt_instances_3d.bboxes_3d.tensor
        moving = torch.cat([boxes, boxes[:, 3:5] - 2], 1)
        each.gt_instances_3d.bboxes_3d = LiDARInstance3DBoxes(moving, box_dim=9)
    stock = MODELS.build(ConfigDict(centerpoint(velocity=True))).train()
    stock.load_state_dict(made.student.state_dict(), strict=True)
    scenes = made.read_batch(inputs, samples)
    batch, targets, _ = made.student_batch(scenes, scenes.boxes, None)
    again = copy.deepcopy(batch)  # the host's pillar encoder writes into its input
    expected = stock.loss(batch, targets)
    found = made.student.loss(again, targets)
    assert set(found) == set(expected) == {'task0.loss_heatmap', 'task0.loss_bbox'}
    for name, value in expected.items():
        assert torch.equal(found[name], value) and value > 0
    whole = made(inputs, samples, mode='loss')
    for name, value in expected.items():
        assert torch.equal(whole[name], value)


def test_thresholds_of_one_leave_the_supervised_loss(model):
    """hssda fact 23: nothing is labelled, weighted or removed; the loss is the supervised one."""
    made = model(1.0, high=1.0, low=1.0)
    made.low = None
    inputs, samples = batch_of((1, NEAR, True), (2, NEAR, False))
    found = made.loss(inputs, samples)
    assert made.teacher.predict.calls == 2 and made.pseudo_stats.kept.sum() == 0
    scenes = made.read_batch(inputs, samples)
    batch, targets, sigma = made.student_batch(scenes, scenes.boxes, None)
    with unshuffled_at(made.student, 'neck', made.patches, sigma):
        expected = made.student.loss(batch, targets)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_levels_of_a_mixed_batch(model):
    """Facts 18 to 21: weights are products of both scores, low boxes are emptied, labels stay."""
    scripted = {1: 0.95, 2: 0.3, 3: 0.7, 4: 0.3, 5: 0.6}
    made = model(lambda number, label: scripted[number], high=0.9, low=0.5, student_view=STILL)
    inputs, samples = batch_of((7, NEAR[:2], True), (8, NEAR, False))
    scenes = made.read_batch(inputs, samples)
    target, suppressed = made.pseudo_labels(scenes)
    assert target.lists()[0][2].tolist() == [1, 1] and suppressed.valid[0].sum() == 0
    assert target.lists()[1][2].tolist() == pytest.approx([0.95, 0.7, 0.6], abs=1e-4)
    assert torch.equal(target.lists()[0][0], boxes_of(NEAR[:2])[0])
    gone = suppressed.lists()[1][0]
    torch.testing.assert_close(gone, boxes_of(NEAR)[0][[1, 3]], atol=1e-4, rtol=0)
    batch, made_samples, _ = made.student_batch(scenes, target, suppressed)
    inner = boxes_of(NEAR)[0]
    inner[:, 2] += 0.01
    inner[:, 3:6] -= 0.02  # not the markers on the faces
    counts = points_in_boxes(batch['points'][1][:, :3], inner).sum(0)
    assert counts[[1, 3]].tolist() == [0, 0] and int(counts[[0, 2, 4]].min()) >= 20
    kept = points_in_boxes(batch['points'][0][:, :3], inner).sum(0)
    assert int(kept[:2].min()) >= 20
    # the weights reach the heatmap of the student's head
    weights = made.student.pts_bbox_head.get_targets([s.gt_instances_3d for s in made_samples])[0]
    assert bool((weights.heatmap_weights[0] == 1).all())
    assert sorted(weights.heatmap_weights[1].unique().tolist()) == pytest.approx(
        [0.6, 0.7, 0.95, 1.0], abs=1e-4
    )
    losses = made.loss(inputs, samples)
    assert all(value.isfinite() for value in losses.values())


@pytest.mark.parametrize('emptied', [0, 1, 2])
def test_a_scene_without_points_still_counts(model, emptied):
    """The host counts scenes by their voxels (B12)."""
    from mmdistill.det3d.box_batch import BoxBatch

    made = model()
    scenes = made.read_batch(*near_batch(made, True, True, True))
    huge = torch.tensor([[12.8, 0, -5, 60, 60, 10, 0]])
    lists = [huge if row == emptied else huge[:0] for row in range(3)]
    suppressed = BoxBatch.from_lists(lists, [torch.zeros(len(each)).long() for each in lists])
    batch, targets, _ = made.student_batch(scenes, scenes.boxes, suppressed)
    assert len(batch['points'][emptied]) == 1
    assert all(value.isfinite() for value in made.student.loss(batch, targets).values())


# ------------------------------------------------------------------ teacher


def test_teacher_predicts_as_the_plain_detector(model):
    made = model(teacher_test_cfg=dict(score_threshold=0.0, post_max_size=7))
    inputs, samples = batch_of((1, NEAR, False), (2, [], False))
    scenes = made.read_batch(inputs, samples)
    found, extra = made.teacher_predict(scenes.points)
    assert made.teacher.pts_bbox_head.test_cfg.post_max_size == 50
    plain = copy.deepcopy(made.teacher)
    plain.pts_bbox_head.test_cfg.update(score_threshold=0.0, post_max_size=7)
    data = plain.data_preprocessor(dict(inputs=inputs, data_samples=samples), False)
    expected = plain.predict(data['inputs'], data['data_samples'])
    assert found.valid.sum(1).tolist() == [7, 7]
    for row, (boxes, labels, scores) in enumerate(found.lists()):
        instances = expected[row].pred_instances_3d
        torch.testing.assert_close(boxes[:, :6], instances.bboxes_3d.tensor[:, :6])
        assert torch.equal(labels, instances.labels_3d.long())
        assert torch.equal(scores, instances.scores_3d)
        assert torch.equal(extra['peak_scores_3d'][row], instances.peak_scores_3d)
    with pytest.raises(UserError, match="'score_thr'.*score_threshold"):
        model(teacher_test_cfg=dict(score_thr=0.3))


def test_only_the_student_gets_gradients_and_the_teacher_follows(model):
    """hssda facts 26 and 28."""
    from mmengine.optim import build_optim_wrapper

    made = model(0.7, high=0.9, low=0.5)
    modes = []
    made.teacher.pts_backbone.register_forward_hook(lambda part, *_: modes.append(part.training))
    sum(made.loss(*batch_of((1, NEAR, True), (2, NEAR, False))).values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.student.parameters())
    assert all(p.grad is None and not p.requires_grad for p in made.teacher.parameters())
    del made.teacher.predict
    made.teacher_predict(made.read_batch(*near_batch(made, False)).points)
    assert modes == [False]
    cfg = dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=1e-3),
        constructor='mmdistill.StudentOptimWrapperConstructor',
    )
    groups = build_optim_wrapper(made, cfg).optimizer.param_groups
    listed = {id(p) for group in groups for p in group['params']}
    assert listed == {id(p) for p in made.student.parameters()}
    old = {name: value.clone() for name, value in made.teacher.state_dict().items()}
    other = model(weight_seed=1).student.state_dict()
    made.student.load_state_dict(other)
    ema_update(made.teacher, made.student, 0.7, buffers='ema')
    for name, value in made.teacher.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.7 * old[name] + 0.3 * other[name], msg=name)


@pytest.mark.parametrize('kind', ['CenterHead', 'mmdistill.SoftCenterHead'])
def test_a_plain_checkpoint_fills_both_branches(model, kind):
    """hssda fact 27, from the host's own head and from the burn-in's."""
    from mmdet3d.registry import MODELS

    torch.manual_seed(4)
    plain = MODELS.build(ConfigDict(centerpoint(head=kind)))
    made = model(detector=centerpoint(head=kind))
    made.load_state_dict(plain.state_dict(), strict=False)
    for branch in (made.student, made.teacher):
        for name, value in plain.state_dict().items():
            assert torch.equal(branch.state_dict()[name], value), name
    exported = made.branch_state_dict('teacher')
    MODELS.build(ConfigDict(centerpoint())).load_state_dict(exported, strict=True)


def test_every_sparse_kernel_of_a_plain_checkpoint_is_read(voxel_model, tmp_path):
    """hssda fact 27 and 5.2.3: kernels without metadata would be permuted without a word."""
    from mmdet3d.registry import MODELS
    from mmengine.runner.checkpoint import load_checkpoint, save_checkpoint

    torch.manual_seed(11)
    plain = MODELS.build(ConfigDict(centerpoint_voxel()))
    path = str(tmp_path / 'plain.pth')
    state = plain.state_dict()
    save_checkpoint(dict(state_dict=state), path)
    made = voxel_model()
    load_checkpoint(made, path, map_location='cpu', strict=False)
    kernels = 0
    for branch in (made.student, made.teacher):
        for name, value in state.items():
            assert torch.equal(branch.state_dict()[name], value), name
            kernels += value.dim() == 5
    assert kernels == 2 * 9


def test_voxels_train_on_the_cpu(voxel_model):
    """Loss and finite gradients of every kernel, through the unshuffled sparse encoder."""
    from mmdistill.det3d.compat import fix_spconv_cpu_stream

    assert fix_spconv_cpu_stream()
    made = voxel_model(student_view=STILL)
    losses = made.loss(*near_batch(made, True, False))
    sum(losses.values()).backward()
    for name, parameter in made.student.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        if parameter.dim() == 5:
            assert parameter.grad.abs().sum() > 0, name


# ------------------------------------------------------------------ a training


class Watch(Hook):
    """Keeps the losses and the number of labels of each step."""

    def __init__(self):
        self.losses, self.kept = [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append({name: float(value) for name, value in outputs.items()})
        stats = runner.model.pseudo_stats
        self.kept.append(None if stats is None else int(stats.kept.sum()))


def test_twenty_iterations_mine_and_learn(host, marked_kitti, truth, tmp_path):
    """Fact 35: finite, falling loss, populated thresholds, true high boxes, a moving teacher."""
    from mining_ranks import spread_scores

    bank = dict(sample_groups=dict(Pedestrian=3, Cyclist=3, Car=3), min_points=3)
    runner = training(
        marked_kitti,
        tmp_path,
        20,
        center_hssda_cfg(object_bank=bank),
        experiment_name='twenty-centers',
    )
    made, watch = runner.model, Watch()
    made.teacher.predict = PeakTeacher(spread_scores)
    runner.register_hook(watch, priority='VERY_HIGH')
    before = {name: p.clone() for name, p in made.student.named_parameters()}
    runner.train()
    assert len(watch.losses) == 20
    assert all(torch.tensor(list(each.values())).isfinite().all() for each in watch.losses)
    for name in ('loss', 'task0.loss_heatmap', 'task0.loss_bbox'):
        first, last = (
            sum(each[name] for each in part) for part in (watch.losses[:5], watch.losses[-5:])
        )
        assert last < 0.8 * first, name
    # the thresholds of cars left their start, true boxes of unlabelled frames were mined
    assert 0.5 == float(made.filter.low[0, 2]) < float(made.filter.high[0, 2]) < 0.9
    assert 0 < float(made.filter.low[1, 2]) <= float(made.filter.high[1, 2]) != 0.93
    assert len(made.store) >= 1 and int(made.store.version) == 2
    assert not set(made.store.frame_ids()) & set(LABELLED)
    for frame in made.store.frame_ids():
        overlap = bev_iou(made.store.frame(frame)[0], truth[frame][0])
        assert float(overlap.amax(1).min()) > 0.99
    assert made.bank.mined.any() and sum(k for k in watch.kept if k is not None) > 20
    assert int(made.teacher_steps) == 20 and int(made.skipped_steps) == 0
    assert all(not torch.equal(p, before[n]) for n, p in made.student.named_parameters())
    assert all(not torch.equal(p, before[n]) for n, p in made.teacher.named_parameters())


# ------------------------------------------------------------------ configs


def test_there_is_a_config_for_each_of_the_pointpillars_ones():
    names = {path.name for path in CONFIGS.glob('*.py')}
    wanted = {n.replace('pointpillars', 'centerpoint') for n in names if 'pointpillars' in n}
    assert len(wanted) > 8 and wanted <= names
    assert 'hssda_centerpoint-voxel_synthetic-kitti_smoke.py' in names


@pytest.mark.parametrize('path', EVERY_CONFIG, ids=lambda path: path.stem)
def test_sizes_of_a_config_fit_each_other(host, path):
    """Run without numbers: heatmaps are as large as targets, and maps are cut where they must."""
    from mmdet3d.registry import MODELS

    cfg = launch.read_config(path).model
    detector = cfg.get('detector', cfg)
    voxels = 'centerpoint-voxel' in path.stem
    if voxels:
        pytest.importorskip('spconv.pytorch')
    with DefaultScope.overwrite_default_scope('mmdet3d'), torch.device('meta'):
        parts = {
            name: MODELS.build(copy.deepcopy(detector[f'pts_{name}']))
            for name in ('backbone', 'neck', 'bbox_head')
        }
        layer, encoder = detector.data_preprocessor.voxel_layer, detector.pts_middle_encoder
        span = [layer.point_cloud_range[i + 3] - layer.point_cloud_range[i] for i in range(3)]
        cells = [round(s / v) for s, v in zip(span, layer.voxel_size, strict=True)]
        stride = 8 if voxels else 1
        given = encoder.sparse_shape[1:] if voxels else encoder.output_shape
        assert list(given) == cells[1::-1] and detector.train_cfg.pts.grid_size == cells
        channels = detector.pts_backbone.in_channels
        levels = [torch.empty(1, channels, cells[1] // stride, cells[0] // stride)]
        places = dict(middle_encoder=list(levels))
        for name in ('backbone', 'neck'):
            levels = parts[name](levels[0] if name == 'backbone' else levels)
            places[name] = list(levels)
        maps = parts['bbox_head'](levels)[0][0]
    factor = detector.train_cfg.pts.out_size_factor
    classes = detector.pts_bbox_head.tasks[0]['num_class']
    assert maps['heatmap'].shape[1:] == (classes, cells[1] // factor, cells[0] // factor)
    assert detector.pts_bbox_head.bbox_coder.out_size_factor == factor
    if cfg.get('shuffle'):
        for each in places[cfg.shuffle.unshuffle_at]:
            assert each.shape[2] % 2 == each.shape[3] % 2 == 0
        assert voxels == (cfg.shuffle.unshuffle_at == 'middle_encoder')


@pytest.mark.parametrize(
    'name',
    [
        'hssda_centerpoint_synthetic-kitti',
        'mean-teacher_centerpoint_synthetic-kitti',
        'hssda_centerpoint-voxel_synthetic-kitti_smoke',
    ],
)
def test_models_of_the_synthetic_configs_train(host, name):
    """One step on two scenes; both branches are built, with their banks and thresholds."""
    from mmdet3d.registry import MODELS

    from mmdistill.det3d.compat import fix_spconv_cpu_stream

    if 'voxel' in name:
        pytest.importorskip('spconv.pytorch')
        fix_spconv_cpu_stream()
    cfg = launch.read_config(CONFIGS / f'{name}.py')
    with DefaultScope.overwrite_default_scope('mmdet3d'):
        made = initialised(MODELS.build(cfg.model))
        losses = made.loss(*near_batch(made, True, False))
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in made.student.parameters())
    assert all(p.grad.isfinite().all() for p in made.student.parameters())
