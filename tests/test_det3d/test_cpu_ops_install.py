"""The hosts' operators are replaced everywhere, once, for CPU tensors alone."""

import mmcv.ops
import pytest
import torch
from mmdet3d.models.layers import box3d_nms
from mmdet3d.models.layers.pointnet_modules import stack_point_sa_module
from mmdet3d.models.middle_encoders import voxel_set_abstraction
from mmdet3d.structures import LiDARInstance3DBoxes
from mmdet3d.structures.bbox_3d import base_box3d

from mmdistill.det3d.cpu_ops import compat, install_cpu_ops, remove_cpu_ops

HOLDERS = [
    (mmcv.ops, 'furthest_point_sample'),
    (voxel_set_abstraction, 'furthest_point_sample'),
    (stack_point_sa_module, 'ball_query'),
    (stack_point_sa_module, 'grouping_operation'),
    (base_box3d, 'points_in_boxes_part'),
    (base_box3d, 'box_iou_rotated'),
    (box3d_nms, 'nms_rotated'),
    (mmcv.ops, 'voxelization'),
]


@pytest.fixture(autouse=True)
def clean(host):
    remove_cpu_ops()
    yield
    remove_cpu_ops()


def _held():
    return [getattr(module, name) for module, name in HOLDERS]


def test_installing_twice_is_installing_once_and_can_be_undone():
    before = _held()
    install_cpu_ops()
    once = _held()
    install_cpu_ops()
    assert all(one is two for one, two in zip(once, _held(), strict=True))
    assert [either.host_op for either in once] == before
    remove_cpu_ops()
    assert _held() == before
    remove_cpu_ops()
    assert _held() == before


def test_nothing_else_holds_the_old_operators():
    originals = {id(getattr(mmcv.ops, name)): name for module, name in HOLDERS}
    install_cpu_ops()
    left = [
        (module.__name__, name)
        for module in compat._host_modules()
        for name, value in vars(module).items()
        if id(value) in originals
    ]
    assert left == []


def test_other_devices_go_to_the_host():
    calls = []
    either = compat.by_device(
        lambda *given, **named: calls.append('theirs'), lambda *given, **named: calls.append('ours')
    )
    here, there = torch.zeros(1), torch.zeros(1, device='meta')
    either(here, 3)
    either(here, there)
    either(1, points=there)
    either(1, points=here)
    assert calls == ['ours', 'theirs', 'theirs', 'ours']


def test_every_replacement_is_a_listed_patch():
    assert [patch.what for patch in compat.PATCHES] == [each.what for each in compat.REPLACEMENTS]
    assert len({patch.what for patch in compat.PATCHES}) == len(compat.PATCHES)
    assert all(patch.defect and patch.until for patch in compat.PATCHES)


def test_boxes_of_the_host_overlap_exactly():
    """Half a turn of the same box; their CPU operator can lose it."""
    install_cpu_ops()
    yaw = torch.linspace(0, 6, 60)
    boxes = torch.zeros(60, 7)
    boxes[:, 3:6], boxes[:, 6] = torch.tensor([3.9, 1.6, 1.5]), yaw
    turned = boxes.clone()
    turned[:, 6] += torch.pi
    iou = LiDARInstance3DBoxes.overlaps(LiDARInstance3DBoxes(boxes), LiDARInstance3DBoxes(turned))
    torch.testing.assert_close(iou.diagonal(), torch.ones(60), rtol=0, atol=1e-5)


def test_boxes_of_the_host_find_their_points():
    boxes = LiDARInstance3DBoxes(torch.tensor([[0.0, 0, 0, 2, 2, 2, 0.3], [5, 0, 0, 2, 2, 2, 0]]))
    points = torch.tensor([[5.0, 0, 1], [0, 0, 1], [9, 9, 9]])
    install_cpu_ops()
    assert boxes.points_in_boxes_part(points).tolist() == [1, 0, -1]
    assert boxes.points_in_boxes_all(points).tolist() == [[0, 1], [1, 0], [0, 0]]
