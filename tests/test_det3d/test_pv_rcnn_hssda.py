"""HSSDA on PV-RCNN on the CPU: its levels, its training, its configs."""

import copy
from pathlib import Path

import mmcv.ops
import pytest
import torch
from det3d_scenes import CLASSES, batch_of, boxes_of, pointpillars
from mmdet3d.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from pv_rcnn_cases import ROWS, build, hssda_pv_rcnn
from pv_rcnn_cfg import pv_rcnn, stock_cfg

from mmdistill.core import launch
from mmdistill.det3d.boxes import bev_iou, iou_3d, points_in_boxes
from mmdistill.det3d.cpu_ops import remove_cpu_ops
from mmdistill.det3d.detectors import soft_detector
from mmdistill.det3d.semi_detector import remove_points
from mmdistill.det3d.shuffle_aug import unshuffled_at

pytest.importorskip('spconv.pytorch')
CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'hssda'
NEAR = [(6, 1, 2, 0.2), (9, -3, 2, 1.1), (7.5, 4, 1, -0.4), (4, -1.5, 0, 0.3), (10, 3.5, 0, 2.0)]


@pytest.fixture(autouse=True)
def operators(host):
    """The hosts' own operators before and after each test."""
    remove_cpu_ops()
    yield
    remove_cpu_ops()


@pytest.fixture
def model(operators):
    """Thresholds in the middle of an untrained teacher's scores, so that every level is filled."""
    made = hssda_pv_rcnn(teacher_test_cfg=dict(score_thr=0.1), low=dict(score_thr=0.1))
    scenes = made.read_batch(*batch_of(*((k, NEAR, False) for k in range(4))))
    teacher = made.teacher
    for last in (teacher.rpn_head.conv_reg, teacher.roi_head.bbox_head.reg_layer[-1]):
        torch.nn.init.zeros_(last.weight)  # boxes of the anchors' sizes
        torch.nn.init.zeros_(last.bias)
    for norm in teacher.modules():
        if isinstance(norm, torch.nn.modules.batchnorm._BatchNorm):
            norm.momentum = 1.0
    teacher.train()
    made.teacher_predict(scenes.points)  # statistics for which scores differ
    teacher.eval()
    teacher.rpn_head.conv_cls.weight.data *= 10
    weak, _, scores = made.judge(scenes.points, scenes.frames, purpose=1)
    low = torch.stack([scores[..., k][weak.valid].quantile(0.1) for k in range(3)])
    made.filter.low.copy_(low[:, None])
    made.filter.high.copy_(low[:, None] + 0.1)
    assert float(scores[..., 1][weak.valid].std()) > 0.01
    return made


# ------------------------------------------------------------------ where operators come from


def test_building_pv_rcnn_installs_the_cpu_operators_and_nothing_else_does(host):
    own = mmcv.ops.furthest_point_sample
    with DefaultScope.overwrite_default_scope('mmdet3d'):
        for cfg in (pointpillars(), soft_detector(pointpillars(), {})):
            MODELS.build(ConfigDict(copy.deepcopy(cfg)))
        MODELS.build(pv_rcnn())  # the host's class: as it was
    assert mmcv.ops.furthest_point_sample is own
    build(soft_detector(pv_rcnn(), {}))
    assert mmcv.ops.furthest_point_sample.host_op is own


def test_a_scene_is_judged_alone_as_in_company(operators):
    """Rows of sparse levels come sorted by sample: no scene pools features of another."""
    made = hssda_pv_rcnn(teacher_test_cfg=dict(score_thr=0.0)).eval()
    scenes = [(k, NEAR[: k + 2], False) for k in range(3)]
    together, extra = made.teacher_predict(made.read_batch(*batch_of(*scenes)).points)
    for row, scene in enumerate(scenes):
        alone, own = made.teacher_predict(made.read_batch(*batch_of(scene)).points)
        count = int(together.valid[row].sum())
        assert int(alone.valid.sum()) == count > 3
        torch.testing.assert_close(alone.weights[0], together.weights[row, :count])
        torch.testing.assert_close(own['roi_scores_3d'][0], extra['roi_scores_3d'][row, :count])
        torch.testing.assert_close(
            alone.boxes[0], together.boxes[row, :count], atol=1e-3, rtol=1e-3
        )


# ------------------------------------------------------------------ levels


def test_laws_of_the_levels(model):
    """Facts 18 to 21 on an untrained teacher's crowded boxes, removal before the last NMS."""
    scenes = model.read_batch(*batch_of((0, NEAR, True), (1, NEAR, False), (2, ROWS, False)))
    model.store.update(
        dict(
            frames=torch.tensor([1, 1]),
            boxes=boxes_of(NEAR[:2])[0],
            labels=torch.tensor([2, 2]),
            scores=torch.tensor([0.9, 0.9]),
        ),
        0,
    )
    target, suppressed = model.pseudo_labels(scenes)
    rows = torch.tensor([1, 2])
    weak, _, scores = model.judge(scenes.points.select(rows), [1, 2], purpose=1)
    before = model.before_nms
    softs = gone = 0
    for place, row in enumerate(rows.tolist()):
        boxes, _, weights = target.lists()[row]
        stored = 2 if row == 1 else 0
        hard, soft = boxes[:stored], boxes[stored:]
        assert weights[:stored].tolist() == [1.0] * stored
        assert float(bev_iou(soft, hard).sum()) == 0
        for box, weight in zip(soft, weights[stored:], strict=True):
            index = int((weak.boxes[place] - box).abs().sum(1).argmin())
            label = int(weak.labels[place, index])
            assert bool((scores[place, index] > model.filter.low[:, label]).all())
            assert float(weight) == pytest.approx(float(scores[place, index, :2].prod()))
            assert 0 < float(weight) <= 1
        low = suppressed.lists()[row][0]
        assert float(iou_3d(low, boxes).sum()) == 0
        free = iou_3d(before.boxes[place], boxes).sum(1) == 0
        assert len(low) == int((before.valid[place] & free & (before.weights[place] > 0.1)).sum())
        softs, gone = softs + len(soft), gone + len(low)
    assert softs > 3 and gone > 3
    # fact 19: the labelled scene is left alone
    assert torch.equal(target.lists()[0][0], boxes_of(NEAR)[0])
    assert target.lists()[0][2].tolist() == [1.0] * len(NEAR) and not suppressed.valid[0].any()
    left = remove_points(scenes.points, suppressed).lists()
    for row, (points, kept) in enumerate(zip(scenes.points.lists(), left, strict=True)):
        inside = points_in_boxes(points[:, :3], suppressed.lists()[row][0]).any(1)
        assert torch.equal(kept, points[~inside])
    assert torch.equal(left[0], scenes.points.lists()[0])
    # boxes that the last NMS had dropped are removed too, on request not
    model.low['before_nms'] = False
    model.teacher_test_cfg.pop('keep_before_nms')
    _, fewer = model.pseudo_labels(scenes)
    assert 0 < int(fewer.valid.sum()) < int(suppressed.valid.sum())


def test_thresholds_of_one_leave_the_supervised_loss(model):
    """Fact 23, through both stages and the shuffle."""
    model.filter.high.fill_(1.0)
    model.filter.low.fill_(1.0)
    model.low = None
    inputs, samples = batch_of((1, NEAR, True), (2, ROWS, False), (3, [], True))
    torch.manual_seed(3)
    found = model.loss(inputs, samples)
    assert model.pseudo_stats.kept.sum() == 0
    scenes = model.read_batch(inputs, samples)
    batch, targets, sigma = model.student_batch(scenes, scenes.boxes, None)
    for target in targets:
        del target.gt_instances_3d.weights
    assert [len(each.gt_instances_3d) for each in targets] == [len(NEAR), 0, 0]
    torch.manual_seed(3)
    with unshuffled_at(model.student, 'middle_encoder', model.patches, sigma):
        expected = model.student.loss(batch, targets)
    assert_equal(found, expected)


def test_loss_of_a_labelled_scene_is_the_plain_detectors(model):
    """Fact 24 for the whole network: one scene, since the host mixes the samples of several."""
    plain = build(pv_rcnn(), seed=9)
    plain.load_state_dict(model.student.state_dict())
    inputs, samples = batch_of((1, NEAR, True))
    torch.manual_seed(3)
    found = model.loss(inputs, samples)
    scenes = model.read_batch(inputs, samples)
    batch, targets, sigma = model.student_batch(scenes, scenes.boxes, None)
    assert sigma is None
    torch.manual_seed(3)
    assert_equal(found, plain.loss(batch, targets))


def assert_equal(found, expected):
    """Bit-equal losses of the same names, of both stages."""
    assert set(found) == set(expected) >= {'loss_rpn_bbox', 'loss_semantic', 'loss_corner'}
    for name, value in expected.items():
        parts = (found[name], value) if isinstance(value, list) else ([found[name]], [value])
        assert torch.equal(*(torch.stack(part) for part in parts)), name


def test_soft_weights_reach_the_student(model):
    """Half the weight of all unlabelled boxes halves what the first stage learns from them."""
    scenes = batch_of(*((k, NEAR, False) for k in range(4)))
    loss, seen = model.student.loss, []

    def spy(batch, samples):
        seen.append(torch.cat([each.gt_instances_3d.weights for each in samples]))
        return loss(batch, samples)

    model.student.loss = spy
    full = model.loss(*scenes)
    model.unsup_weight.fill_(0.5)
    half = model.loss(*scenes)
    assert len(seen[0]) > 3 and bool((seen[0] > 0).all() & (seen[0] <= 1).all())
    assert torch.equal(seen[1], seen[0] * 0.5)
    whole = float(full['loss_rpn_bbox'][0].detach())
    assert whole > 0
    assert float(half['loss_rpn_bbox'][0].detach()) == pytest.approx(whole / 2, rel=1e-5)


# ------------------------------------------------------------------ training


class Watch(Hook):
    """Keeps the losses and counts of each step."""

    def __init__(self):
        self.losses, self.kept = [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append({name: float(value) for name, value in outputs.items()})
        self.kept.append(int(runner.model.pseudo_stats.kept.sum()))


def test_twenty_iterations_of_the_smoke_config_learn(host, kitti_folder, tmp_path):
    cfg = launch.read_config(CONFIGS / 'hssda_pv-rcnn_synthetic-kitti_smoke.py')
    cfg.train_dataloader.dataset.dataset.data_root = f'{kitti_folder}/'
    cfg.train_dataloader.dataset.split_file = f'{kitti_folder}/ImageSets_semi/train_4_1.txt'
    cfg.val_dataloader.dataset.data_root = f'{kitti_folder}/'
    cfg.val_evaluator.ann_file = f'{kitti_folder}/kitti_infos_val.pkl'
    cfg.work_dir, cfg.log_level = str(tmp_path), 'WARNING'
    launch.prepare_hosts()
    runner = Runner.from_cfg(cfg)
    watch = Watch()
    runner.register_hook(watch, priority='VERY_HIGH')
    before = {name: p.clone() for name, p in runner.model.student.named_parameters()}
    runner.train()
    assert len(watch.losses) == 20
    assert all(torch.tensor(list(each.values())).isfinite().all() for each in watch.losses)
    for name in ('loss', 'loss_semantic', 'loss_bbox', 'loss_corner'):
        first, last = (sum(e[name] for e in part) for part in (watch.losses[:5], watch.losses[-5:]))
        assert last < (0.7 if name == 'loss' else 1.0) * first, name
    model = runner.model
    moved = [not torch.equal(p, before[n]) for n, p in model.student.named_parameters()]
    followed = [not torch.equal(p, before[n]) for n, p in model.teacher.named_parameters()]
    assert all(moved) and all(followed) and int(model.teacher_steps) == 20
    assert sum(watch.kept) > 20 and len(model.store) >= 1 and int(model.store.version) == 2
    assert len(list(tmp_path.glob('iter_20*'))) >= 1


# ------------------------------------------------------------------ configs


@pytest.mark.parametrize('share', ['0.01', '0.02'])
def test_full_configs_have_the_official_numbers(host, share):
    name = f'80e_kitti-3d-3class-semi-{share}'
    semi = launch.read_config(CONFIGS / f'hssda_pv-rcnn_6xb10-{name}.py')
    first = launch.read_config(CONFIGS / f'burn-in_pv-rcnn_1xb8-{name}.py')
    model, detector = semi.model, semi.model.detector
    assert detector == first.model
    assert semi.load_from == f'work_dirs/burn-in_pv-rcnn_1xb8-{name}/epoch_80.pth'
    assert {**detector, 'type': 'PointVoxelRCNN'} == stock_cfg().model
    assert f'train_{share}_1.txt' in semi.train_dataloader.dataset.split_file
    assert f'train_{share}_1.txt' in first.train_dataloader.dataset.dataset.split_file
    assert semi.train_dataloader.batch_size == 10 and semi.auto_scale_lr.base_batch_size == 60
    assert first.train_dataloader.batch_size == 8 and first.train_dataloader.dataset.times == 5
    assert tuple(model.scores) == ('cls', 'objectness', 'view_iou')
    assert model.thresholds.init == dict(cls=0.99, objectness=0.95, view_iou=0.93)
    assert tuple(model.ambiguous.weight) == ('cls', 'objectness')
    assert model.object_bank.sample_groups == dict(Car=15, Pedestrian=10, Cyclist=10)
    assert model.teacher_test_cfg == dict(score_thr=0.1, nms_thr=0.1)
    rounds = next(hook for hook in semi.custom_hooks if 'Mining' in hook.type)
    assert rounds.interval == 5 and rounds.by_epoch
    ema = next(hook for hook in semi.custom_hooks if 'Teacher' in hook.type).momentum
    assert ema.keep_final == 0.9996 and ema.ramp_iters == 2000
    rates = [each.eta_min for each in semi.param_scheduler]
    assert semi.optim_wrapper.optimizer.lr == 0.001 and rates[0] == 0.01
    assert semi.train_cfg.max_epochs == 80 and semi.optim_wrapper.clip_grad.max_norm == 10


def test_a_burn_in_checkpoint_fills_both_branches(host):
    """The burn-in's detector has the student's parameters, at full size."""
    semi = launch.read_config(CONFIGS / 'hssda_pv-rcnn_6xb10-80e_kitti-3d-3class-semi-0.01.py')
    plain = build(semi.model.detector)
    cfg = {key: value for key, value in semi.model.items() if key != 'type'}
    made = host.HSSDA(**cfg)
    made.load_state_dict(plain.state_dict(), strict=False)
    for branch in (made.student, made.teacher):
        for name, value in plain.state_dict().items():
            assert torch.equal(branch.state_dict()[name], value), name
    assert made.class_names == CLASSES
