"""Voxelisation by sorting equals mmcv's, voxel by voxel, and does not fill the grid."""

import time

import pytest
import torch
from mmcv.ops import Voxelization

from mmdistill.det3d.cpu_ops import install_cpu_ops, remove_cpu_ops
from mmdistill.det3d.cpu_ops.voxelize import voxelization

RANGE = [0, -4, -3, 8, 4, 1]
KITTI = dict(voxel_size=[0.05, 0.05, 0.1], point_cloud_range=[0, -40, -3, 70.4, 40, 1])


@pytest.fixture
def theirs():
    """Their layer with their own operator, whatever ran before."""
    remove_cpu_ops()
    yield Voxelization
    remove_cpu_ops()


def _points(number, seed=0, dtype=torch.float32):
    """Points around the range, crowded near the origin, in no order."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(number, 4, generator=generator, dtype=dtype) ** 2
    return points * torch.tensor([9, 9, 5, 1]) - torch.tensor([0.2, 4.5, 3.4, 0])


def _equal(ours, theirs):
    assert len(ours) == len(theirs)
    for one, two in zip(ours, theirs, strict=True):
        assert one.dtype == two.dtype and torch.equal(one, two)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('size', [[0.1, 0.1, 0.2], [0.5, 0.5, 4], [0.3, 0.7, 0.3]])
@pytest.mark.parametrize(('max_points', 'max_voxels'), [(5, 200), (1, 10**5), (64, 50)])
def test_hard_voxels_are_theirs(theirs, size, max_points, max_voxels, dtype):
    points = _points(3000, dtype=dtype)
    layer = theirs(size, RANGE, max_points, max_voxels)
    voxels, coors, numbers = voxelization(points, size, RANGE, max_points, max_voxels)
    _equal((voxels, coors, numbers), layer(points))
    assert len(voxels) <= max_voxels and numbers.max() <= max_points


def test_points_on_borders_fall_on_the_same_side(theirs):
    """Multiples of the size, where float32 decides."""
    ticks = torch.arange(-2, 83) * 0.1
    points = torch.cartesian_prod(ticks, ticks - 4, torch.arange(-3.0, 1.5, 0.5))
    _equal(
        voxelization(points, [0.1, 0.1, 0.5], RANGE, 4, 10**6),
        theirs([0.1, 0.1, 0.5], RANGE, 4, 10**6)(points),
    )


def test_by_hand():
    points = torch.tensor([[3.5, 0.5, 0.5], [0.5, 0.5, 0.5], [9, 0, 0], [3.1, 0.1, 0.1], [3, 0, 0]])
    voxels, coors, numbers = voxelization(points, [1, 1, 1], [0, 0, 0, 4, 2, 3], 2, 9)
    assert coors.tolist() == [[0, 0, 3], [0, 0, 0]] and numbers.tolist() == [2, 1]
    assert torch.equal(voxels[0], points[[0, 3]])
    assert torch.equal(voxels[1], torch.stack((points[1], torch.zeros(3))))
    # The only voxel that may be made goes on collecting.
    _, coors, numbers = voxelization(points, [1, 1, 1], [0, 0, 0, 4, 2, 3], 9, 1)
    assert coors.tolist() == [[0, 0, 3]] and numbers.tolist() == [3]


def test_dynamic_coordinates_are_theirs(theirs):
    points = _points(2000)
    layer = theirs([0.1, 0.1, 0.2], RANGE, -1, -1)
    ours = voxelization(points, [0.1, 0.1, 0.2], RANGE, -1, -1)
    _equal([ours], [layer(points)])
    assert (ours == -1).any() and (ours >= 0).all(1).any()


def test_clouds_without_points_in_range():
    for points in (torch.zeros(0, 4), torch.full((3, 4), 99.0), torch.full((3, 4), torch.nan)):
        voxels, coors, numbers = voxelization(points, [0.1] * 3, RANGE, 5, 10)
        assert voxels.shape == (0, 5, 4) and coors.shape == (0, 3) and numbers.shape == (0,)
        dynamic = voxelization(points, [0.1] * 3, RANGE, -1)
        assert torch.equal(dynamic, torch.full((len(points), 3), -1, dtype=torch.int32))


def test_the_layer_is_ten_times_faster_on_kitti(theirs):
    points = _points(18000) * torch.tensor([7.5, 8.5, 0.8, 1])
    layer = theirs(max_num_points=5, max_voxels=(16000, 40000), **KITTI)

    def best(runs):
        times = []
        for _ in range(runs):
            start = time.thread_time()
            voxels = layer(points)
            times.append(time.thread_time() - start)
        return voxels, min(times)

    expected, before = best(1)
    install_cpu_ops()
    voxels, after = best(3)
    _equal(voxels, expected)
    assert after < before / 10
