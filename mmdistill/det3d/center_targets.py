"""Targets of a centre-based head (CenterPoint, arXiv:2006.11275) for a whole batch at once.

Every object draws a Gaussian on the heatmap of its class; where several meet, the largest value
wins. Beside the values stands the soft weight of the winner, so that a cell's loss follows the
object that rules it (HSSDA's ambiguous level; the paper weights anchors, the map is ours).
The values are those of mmdet3d's ``CenterHead``, bit by bit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from mmdet3d.models.utils.gaussian import gaussian_2d
from torch import Tensor


@dataclass(frozen=True)
class Objects:
    """All ground-truth boxes of a batch, scene by scene.

    Attributes:
        boxes: (K, 7 or 9) [x, y, z_centre, dx, dy, dz, yaw, vx, vy].
        labels: (K,) class indices.
        weights: (K,) soft weights, 1 for hard labels.
        scene: (K,) index of the scene.
        batch: number of scenes B.
    """

    boxes: Tensor
    labels: Tensor
    weights: Tensor
    scene: Tensor
    batch: int

    def select(self, rows: Tensor) -> 'Objects':
        """Some objects (an index or mask)."""
        parts = (each[rows] for each in (self.boxes, self.labels, self.weights, self.scene))
        return Objects(*parts, self.batch)


@dataclass(frozen=True)
class CenterTargets:
    """What one task of the head learns.

    Attributes:
        heatmap: (B, C, H, W) values in [0, 1], 1 at the cells of the objects' centres.
        heatmap_weights: (B, C, H, W) soft weight of the object whose Gaussian is the largest
            (of the heavier one when several are equal), 1 where there is none.
        boxes: (B, M, 8 or 10) offset x, y in cells, z_centre, size or its logarithm, sine and
            cosine of the yaw, velocity.
        cells: (B, M) index y * W + x of the cell that answers for the box.
        found: (B, M) bool, places that hold an object.
        weights: (B, M) soft weights, 0 where there is no object.
    """

    heatmap: Tensor
    heatmap_weights: Tensor
    boxes: Tensor
    cells: Tensor
    found: Tensor
    weights: Tensor


def center_targets(
    objects: Objects, first: int, classes: int, cfg: Mapping, log_size: bool
) -> CenterTargets:
    """Targets of the task with the labels ``first`` to ``first + classes - 1``.

    Args:
        objects: boxes of the batch.
        first: first label of the task.
        classes: number of its classes C.
        cfg: mmdet3d's ``train_cfg`` of the head.
        log_size: sizes are learned as logarithms (``norm_bbox``).
    """
    task, place = _places(objects, first, classes)
    stride, low, cell = cfg['out_size_factor'], cfg['point_cloud_range'], cfg['voxel_size']
    low, cell = torch.tensor(low), torch.tensor(cell)  # on the CPU, as in the host: same rounding
    columns, rows = (int(size) // stride for size in cfg['grid_size'][:2])
    center = torch.stack([(task.boxes[:, i] - low[i]) / cell[i] / stride for i in (0, 1)], 1)
    length, width = (task.boxes[:, 3 + i] / cell[i] / stride for i in (0, 1))
    at = center.int()
    most = cfg['max_objs'] * cfg['dense_reg']
    seen = (width > 0) & (length > 0) & (place < most)
    seen &= ((at >= 0) & (at < at.new_tensor([columns, rows]))).all(1)
    task, place, center, at = task.select(seen), place[seen], center[seen], at[seen]

    radius = _radii(width[seen], length[seen], cfg)
    heatmap, heatmap_weights = draw_gaussians(
        (task.scene * classes + task.labels - first, at.long(), radius, task.weights),
        (task.batch * classes, rows, columns),
    )
    sizes = task.boxes[:, 3:6].log() if log_size else task.boxes[:, 3:6]
    yaw = task.boxes[:, 6:7]
    learned = [center - at, task.boxes[:, 2:3], sizes, yaw.sin(), yaw.cos(), task.boxes[:, 7:]]

    def placed(values: Tensor) -> Tensor:
        table = values.new_zeros(task.batch, most, *values.shape[1:])
        return table.index_put((task.scene, place), values)

    return CenterTargets(
        heatmap=heatmap.view(task.batch, classes, rows, columns),
        heatmap_weights=heatmap_weights.view(task.batch, classes, rows, columns),
        boxes=placed(torch.cat(learned, 1)),
        cells=placed(at[:, 1].long() * columns + at[:, 0]),
        found=placed(torch.ones_like(place, dtype=torch.bool)),
        weights=placed(task.weights),
    )


def _places(objects: Objects, first: int, classes: int) -> tuple[Objects, Tensor]:
    """The objects of a task by scene and class, and the place of each among its scene's."""
    task = objects.select((objects.labels >= first) & (objects.labels < first + classes))
    task = task.select((task.scene * classes + task.labels).argsort(stable=True))
    counts = torch.bincount(task.scene, minlength=task.batch)
    starts = (counts.cumsum(0) - counts)[task.scene]
    return task, torch.arange(len(starts), device=starts.device) - starts


def draw_gaussians(
    objects: tuple[Tensor, Tensor, Tensor, Tensor], shape: tuple[int, int, int]
) -> tuple[Tensor, Tensor]:
    """Heatmaps and the weights of the objects that rule their cells.

    Args:
        objects: (K,) index of the map, (K, 2) column and row of the centre, (K,) radius in
            cells, (K,) weight of each object.
        shape: number of maps N, rows H, columns W.

    Returns:
        (N, H, W) largest value of any Gaussian (a Gaussian ends at its radius), 0 where there
        is none, and (N, H, W) weights of their objects, 1 where there is none.
    """
    which, at, radius, weight = objects
    maps, rows, columns = shape
    heatmap, ruling = weight.new_zeros(shape).flatten(), weight.new_ones(shape).flatten()
    if len(which) == 0:
        return heatmap.view(shape), ruling.view(shape)
    reach = min(int(radius.max()), max(rows, columns) - 1)
    windows = gaussian_windows(radius, reach).to(weight)
    step = torch.arange(-reach, reach + 1, device=at.device)
    x, y = at[:, 0, None, None] + step, at[:, 1, None, None] + step[:, None]
    drawn = (x >= 0) & (x < columns) & (y >= 0) & (y < rows) & (windows > 0)
    cell = ((which[:, None, None] * rows + y) * columns + x)[drawn]
    value = windows[drawn]
    heatmap = heatmap.scatter_reduce(0, cell, value, 'amax')
    owner = torch.arange(len(which), device=at.device)[:, None, None].expand_as(drawn)[drawn]
    wins = value == heatmap[cell]
    ruling = ruling.scatter_reduce(0, cell[wins], weight[owner[wins]], 'amax', include_self=False)
    return heatmap.view(shape), ruling.view(shape)


def gaussian_windows(radius: Tensor, reach: int) -> Tensor:
    """(K, 2 reach + 1, 2 reach + 1) Gaussians of (K,) whole radii, cut or padded with zeros."""
    sizes, row = radius.unique(return_inverse=True)
    table = torch.stack([_window(int(size), reach) for size in sizes.tolist()])
    return table.to(radius.device)[row]


@lru_cache(maxsize=256)
def _window(radius: int, reach: int) -> Tensor:
    """The host's Gaussian of a radius in the middle of a window of another one."""
    diameter = 2 * radius + 1
    full = torch.from_numpy(gaussian_2d((diameter, diameter), sigma=diameter / 6)).float()
    return torch.nn.functional.pad(full, [reach - radius] * 4)


def _radii(width: Tensor, length: Tensor, cfg: Mapping) -> Tensor:
    """(K,) whole radii in cells, at least ``min_radius``.

    The largest shift of two corners that leaves an overlap of ``gaussian_overlap`` (CornerNet,
    arXiv:1808.01244): both boxes alike, one inside the other, or one around the other. Products
    are taken in the host's order, so that the numbers are its own.
    """
    overlap = cfg['gaussian_overlap']
    both = width + length
    alike = _root(1, both, length * width * (1 - overlap) / (1 + overlap))
    inside = _root(4, 2 * both, (1 - overlap) * length * width)
    around = _root(4 * overlap, -2 * overlap * both, (overlap - 1) * length * width)
    radius = torch.minimum(torch.minimum(alike, inside), around)
    return radius.long().clamp(min=cfg['min_radius'])


def _root(a: float, b: Tensor, c: Tensor) -> Tensor:
    """Half of ``b`` plus the root of the discriminant, the host's solution of the three cases."""
    return (b + (b**2 - 4 * a * c).sqrt()) / 2
