"""Configs of SECOND, of PV-RCNN and of the peers' filters: what they say, and one step of each."""

from pathlib import Path

import pytest
import torch
from det3d_scenes import boxes_of, cloud, initialised, sample
from mmengine.registry import DefaultScope

from mmdistill.core import launch

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'hssda'
KITTI = '6xb10-80e_kitti-3d-3class-semi-0.01'


@pytest.fixture(scope='module', autouse=True)
def operators():
    """spconv learns on the CPU; operators that a PV-RCNN installs are taken away."""
    from mmdistill.det3d.compat import fix_spconv_cpu_stream
    from mmdistill.det3d.cpu_ops import remove_cpu_ops

    pytest.importorskip('spconv.pytorch')
    fix_spconv_cpu_stream()
    yield
    remove_cpu_ops()


def batch_of_two(model):
    """A labelled and an unlabelled scene inside the model's range."""
    boxes, labels = boxes_of([(6, 2, 2), (9, -3, 0), (12, 4, 1)])
    points = [
        cloud(boxes, labels, seed=row, ground=1500, point_range=model.point_cloud_range)
        for row in range(2)
    ]
    return dict(points=points), [sample(0, boxes, labels), sample(1, labeled=False)]


@pytest.mark.parametrize('detector', ['second', 'pv-rcnn'])
@pytest.mark.parametrize('kind', ['hssda', 'mean-teacher', 'iou-match'])
def test_models_of_the_synthetic_configs_train(host, kind, detector):
    """One step on two scenes; gradients are finite and reach every part of the student."""
    from mmdet3d.registry import MODELS

    path = CONFIGS / f'{kind}_{detector}_synthetic-kitti.py'
    assert path.exists() == (kind != 'iou-match' or detector == 'pv-rcnn')
    if not path.exists():
        return
    cfg = launch.read_config(path)
    with DefaultScope.overwrite_default_scope('mmdet3d'):
        torch.manual_seed(0)
        made = initialised(MODELS.build(cfg.model))
        losses = made.loss(*batch_of_two(made))
    total = sum(sum(each) if isinstance(each, list) else each for each in losses.values())
    total.backward()
    gradients = {name: p.grad for name, p in made.student.named_parameters() if p.grad is not None}
    assert all(bool(each.isfinite().all()) for each in gradients.values())
    for part in ('middle_encoder', 'backbone', 'neck'):
        assert any(name.startswith(part) and bool(g.any()) for name, g in gradients.items()), part
    if kind == 'hssda':
        assert made.unshuffle_at == 'middle_encoder'


def test_cells_of_second_are_those_of_pointpillars(host):
    """The heads are one and the same; maps of half the voxels of 0.16 m are pillars of 0.32 m."""
    from mmdet3d.registry import MODELS

    second, pillars = (
        launch.read_config(CONFIGS / f'supervised_{name}_synthetic-kitti.py').model
        for name in ('second', 'pointpillars')
    )
    assert second.bbox_head == pillars.bbox_head and second.train_cfg == pillars.train_cfg
    with DefaultScope.overwrite_default_scope('mmdet3d'):
        parts = [MODELS.build(second[name]).to('meta').eval() for name in ('backbone', 'neck')]
    rows, columns = (size // 4 for size in second.middle_encoder.sparse_shape[1:])
    features = torch.empty(1, second.backbone.in_channels, rows, columns, device='meta')
    for part in parts:
        features = part(features)
    head = (second.bbox_head.in_channels, *pillars.middle_encoder.output_shape)
    assert features[0].shape[1:] == head == (96, 120, 144)


@pytest.mark.parametrize('base', [f'pv-rcnn_{KITTI}', 'pv-rcnn_synthetic-kitti'])
def test_published_thresholds_of_3diou_match(base):
    """Overlaps of 0.5 / 0.25 / 0.25 for cars, pedestrians, cyclists; class confidence 0.4."""
    cfg = launch.read_config(CONFIGS / f'iou-match_{base}.py')
    thresholds = cfg.model.pseudo_filter.score_thr
    assert thresholds.objectness == 0.4
    assert dict(thresholds.predicted_iou) == dict(Car=0.5, Pedestrian=0.25, Cyclist=0.25)


@pytest.mark.parametrize(
    'name', [f'iou-match_pv-rcnn_{KITTI}', f'mean-teacher_pv-rcnn_{KITTI}',
             f'mean-teacher_second_{KITTI}']
)  # fmt: skip
def test_peers_share_the_base_of_hssda(name):
    kind, detector = name.split('_')[:2]
    cfg, own = (launch.read_config(CONFIGS / f'{each}_{detector}_{KITTI}.py')
                for each in (kind, 'hssda'))  # fmt: skip
    for key in ('detector', 'class_names', 'student_view', 'object_bank', 'teacher_test_cfg',
                'head_cfg'):  # fmt: skip
        assert cfg.model[key] == own.model[key], key
    for key in ('train_dataloader', 'val_dataloader', 'optim_wrapper', 'param_scheduler',
                'train_cfg', 'load_from'):  # fmt: skip
        assert cfg[key] == own[key], key
    hooks = [each for each in own.custom_hooks if 'Mining' not in each.type]
    assert cfg.custom_hooks == hooks
    assert cfg.model.type == 'mmdistill.MeanTeacher3D' and 'shuffle' not in cfg.model
