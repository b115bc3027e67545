"""mmdet3d's PV-RCNN learns and predicts on the CPU, from its own config."""

import pytest
import torch
from det3d_scenes import CLASSES, initialised
from mmdet3d.registry import MODELS
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from pv_rcnn_cfg import RANGE, pv_rcnn

from mmdistill.det3d import compat
from mmdistill.det3d.cpu_ops import install_cpu_ops, remove_cpu_ops
from mmdistill.det3d.lidar_sim import Lidar, simulate

pytest.importorskip('spconv.pytorch')
COARSE = Lidar(beams=24, azimuth_step=0.5, sector=50.0)


@pytest.fixture
def cpu_ops(host):
    compat.fix_spconv_cpu_stream()
    install_cpu_ops()
    yield
    remove_cpu_ops()


def _scene(index):
    """Points and a data sample of a simulated frame, within the tiny model's range."""
    frame = simulate(3, index, COARSE)
    low, high = torch.tensor(RANGE, dtype=torch.float32).view(2, 3)
    points = torch.from_numpy(frame.points)
    points = points[((points[:, :3] > low) & (points[:, :3] < high)).all(1)]
    boxes = torch.from_numpy(frame.scene.boxes).float()
    names = frame.scene.names
    used = [
        k
        for k, name in enumerate(names)
        if name in CLASSES and bool(((boxes[k, :2] > low[:2]) & (boxes[k, :2] < high[:2])).all())
    ]
    truth = InstanceData()
    truth.bboxes_3d = LiDARInstance3DBoxes(boxes[used])
    truth.labels_3d = torch.tensor([CLASSES.index(names[k]) for k in used], dtype=torch.long)
    sample = Det3DDataSample(metainfo=dict(box_type_3d=LiDARInstance3DBoxes))
    sample.gt_instances_3d = truth
    return points, sample


def _batch(model, training):
    """Two frames, preprocessed."""
    points, samples = zip(*[_scene(index) for index in (0, 1)], strict=True)
    data = dict(inputs=dict(points=list(points)), data_samples=list(samples))
    return model.data_preprocessor(data, training)


def _model():
    torch.manual_seed(0)
    # an earlier training in this process may have set another scope
    with DefaultScope.overwrite_default_scope('mmdet3d'):
        return initialised(MODELS.build(pv_rcnn()))


def test_it_learns_and_predicts(cpu_ops):
    model = _model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    totals, reached = [], set()
    for _ in range(8):
        torch.manual_seed(1)
        total, parts = model.parse_losses(model(**_batch(model, True), mode='loss'))
        assert all(value.isfinite() for value in parts.values()), parts
        optimizer.zero_grad()
        total.backward()
        for name, weight in model.named_parameters():
            if weight.grad is not None:
                assert weight.grad.isfinite().all(), name
                reached |= {name} if weight.grad.any() else set()
        optimizer.step()
        totals.append(total.item())
    assert {name for name, _ in model.named_parameters()} == reached
    assert totals[-1] < 0.7 * totals[0], totals

    with torch.no_grad():
        found = model.eval()(**_batch(model, False), mode='predict')
    assert len(found) == 2
    for each in found:
        boxes, scores = each.pred_instances_3d.bboxes_3d, each.pred_instances_3d.scores_3d
        assert len(boxes) == len(scores) > 0
        assert boxes.tensor.isfinite().all()
        assert ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.skipif(torch.cuda.is_available(), reason='a GPU has the operators')
def test_without_the_operators_it_cannot(host):
    compat.fix_spconv_cpu_stream()
    remove_cpu_ops()
    model = _model().eval()
    with torch.no_grad(), pytest.raises((RuntimeError, TypeError, AssertionError)):
        model(**_batch(model, False), mode='predict')
