"""Parts of HSSDA at the size of KITTI against what they replace, on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.timing import Operation, Times, interleaved

RANGE = [0.0, -40.0, -3.0, 70.4, 40.0, 1.0]
VOXEL = [0.05, 0.05, 0.1]
CELLS = (1408, 1600)
POINTS, MAX_POINTS, MAX_VOXELS = 18_000, 5, 16_000
BOXES = 30
POOL = 20_000
"""Scores of a pool of thresholds."""
KEYPOINTS = 2048
ROUNDS = 7
CPU = torch.device('cpu')


def measure_parts(report: Any, quick: bool) -> None:
    """Adds a row for each part and a ratio for each pair."""
    rounds = 2 if quick else ROUNDS
    pairs = {
        "mmcv's grid over sorted voxels": voxelizing,
        'voxels again over moved ones': shuffling,
        'scikit-learn over exact means': clustering,
    }
    for label, pair in pairs.items():
        ours, theirs = _timed(pair(), rounds, report)
        report.add(label, {'x': theirs.median() / ours.median()})
    _timed({**removing(), **cpu_ops()}, rounds, report)


def _timed(operations: dict[str, Operation], rounds: int, report: Any) -> list[Times]:
    """Times operations in turn, a row for each."""
    found = interleaved(operations, rounds, CPU)
    for label, times in found.items():
        report.add(label, times.metrics(), sum(times.wall))
    return list(found.values())


def scene(points: int = POINTS, seed: int = 0) -> Tensor:
    """(P, 4) points of a street, most of them near; all in the range."""
    generator = torch.Generator().manual_seed(seed)
    near = torch.rand(points, 4, generator=generator)
    x, y = 70.3 * near[:, 0] ** 2, (near[:, 1] - 0.5) * (10 + 69 * near[:, 0])
    return torch.stack([x, y, 3.9 * near[:, 2] - 2.95, near[:, 3]], 1)


def boxes(count: int = BOXES, seed: int = 1) -> Tensor:
    """(1, N, 7) cars."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(count, 7, generator=generator)
    size = torch.tensor([3.9, 1.6, 1.56]).expand(count, 3)
    center = torch.stack([70 * drawn[:, 0], 60 * drawn[:, 1] - 30, 0 * drawn[:, 2] - 1.7], 1)
    return torch.cat([center, size, 6.28 * drawn[:, 6:]], 1)[None]


def voxelizing() -> dict[str, Operation]:
    """Voxels by sorting, and mmcv's, which fill the whole grid with marks."""
    from mmcv.ops import Voxelization

    from mmdistill.det3d.cpu_ops.compat import remove_cpu_ops
    from mmdistill.det3d.cpu_ops.voxelize import voxelization

    remove_cpu_ops()
    points, theirs = scene(), Voxelization(VOXEL, RANGE, MAX_POINTS, MAX_VOXELS)
    return {
        'hard voxels, sorted': Operation(
            lambda: voxelization(points, VOXEL, RANGE, MAX_POINTS, MAX_VOXELS)
        ),
        "hard voxels, mmcv's grid": Operation(lambda: theirs(points)),
    }


def shuffling() -> dict[str, Operation]:
    """Voxels moved by their indices, and points moved and put into voxels again (sorted, too)."""
    from mmdistill.det3d.cpu_ops.voxelize import voxelization
    from mmdistill.det3d.shuffle_aug import PatchGrid

    points, grid = scene(), PatchGrid(RANGE)
    sample, sigma = torch.zeros(len(points), dtype=torch.long), torch.tensor([[2, 3, 0, 1]])
    voxels, coors, numbers = voxelization(points, VOXEL, RANGE, MAX_POINTS, MAX_VOXELS)
    coors = torch.cat([torch.zeros(len(coors), 1, dtype=coors.dtype), coors], 1)
    batch, cells = dict(voxels=voxels, coors=coors, num_points=numbers), torch.tensor(CELLS)

    def again() -> None:
        moved = grid.shuffle_points(points, sample, sigma)
        voxelization(moved, VOXEL, RANGE, MAX_POINTS, MAX_VOXELS)

    return {
        'shuffle of voxels': Operation(lambda: grid.shuffle_voxels(batch, sigma, cells)),
        'shuffle of points, voxels again': Operation(again),
    }


def clustering() -> dict[str, Operation]:
    """Exact means of two clusters, and scikit-learn's from ten random beginnings."""
    from sklearn.cluster import KMeans

    from mmdistill.core.filters.two_means import two_means

    rng = np.random.default_rng(0)
    values = np.concatenate([rng.beta(2, 8, POOL // 2), rng.beta(9, 2, POOL - POOL // 2)])
    pool = torch.from_numpy(values)
    theirs = KMeans(n_clusters=2, n_init=10, random_state=0)
    return {
        f'two means of {POOL:,} scores': Operation(lambda: two_means(pool)),
        f"two means of {POOL:,} scores, scikit-learn's": Operation(
            lambda: theirs.fit(values[:, None])
        ),
    }


def removing() -> dict[str, Operation]:
    """Points inside boxes are deleted."""
    from mmdistill.det3d.box_batch import BoxBatch, PointBatch
    from mmdistill.det3d.semi_detector import remove_points

    points, found = scene(), boxes()[0]
    cloud = PointBatch.from_list([points])
    low = BoxBatch.from_lists([found], [torch.zeros(len(found), dtype=torch.long)])
    return {f'removal of points in {BOXES} boxes': Operation(lambda: remove_points(cloud, low))}


def cpu_ops() -> dict[str, Operation]:
    """What PV-RCNN asks for on the CPU, for one scene."""
    from mmdistill.det3d.cpu_ops import ball_query, interpolation, rotated_nms, sampling

    points = scene()[:, :3].contiguous()
    chosen = sampling.furthest_point_sample(points[None], KEYPOINTS)[0].long()
    centers = points[chosen].contiguous()
    count, new_count = (torch.tensor([len(each)], dtype=torch.int32) for each in (points, centers))
    found = boxes(500)[0]
    scores = torch.rand(500, generator=torch.Generator().manual_seed(2))
    return {
        f'furthest {KEYPOINTS} of {POINTS:,} points': Operation(
            lambda: sampling.furthest_point_sample(points[None], KEYPOINTS)
        ),
        f'balls of 0.8 m around {KEYPOINTS} points': Operation(
            lambda: ball_query.ball_query(0, 0.8, 16, points, centers, count, new_count)
        ),
        f'three nearest of {KEYPOINTS} points for all': Operation(
            lambda: interpolation.three_nn(points[None], centers[None])
        ),
        'suppression of 500 boxes in 3D': Operation(lambda: rotated_nms.nms3d(found, scores, 0.7)),
    }
