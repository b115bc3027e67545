"""Which points of a cloud lie in which rotated boxes.

Boxes are ``[x, y, z, dx, dy, dz, yaw]`` with the height ``z`` of the bottom face, as in
:mod:`mmdistill.det3d.boxes`, which offers these functions too.
"""

import torch
from torch import Tensor


def points_in_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """Tells which points lie in which boxes, faces included.

    Args:
        points: ``(P, >=3)`` points, the first three columns are x, y, z in metres.
        boxes: ``(K, 7)`` boxes.

    Returns:
        ``(P, K)`` bool.

    Raises:
        ValueError: On wrong shapes or types.
    """
    batch_idx = torch.zeros(len(points), dtype=torch.long, device=points.device)
    valid = torch.ones(1, len(boxes), dtype=torch.bool, device=boxes.device)
    return points_in_batch_boxes(points, batch_idx, boxes[None], valid)


def points_in_batch_boxes(
    points: Tensor, batch_idx: Tensor, boxes: Tensor, valid: Tensor | None = None
) -> Tensor:
    """Tells which points of a batch lie in which boxes of their own sample, faces included.

    On the CPU a matrix product first finds the few points near a box; on other devices every pair
    is tested, without any host synchronisation. The deciding arithmetic is the same.

    Args:
        points: ``(P, >=3)`` points of all samples, the first three columns are x, y, z.
        batch_idx: ``(P,)`` integer sample index of each point, in any order.
        boxes: ``(B, K, 7)`` boxes, padded.
        valid: ``(B, K)`` bool, False for padding. All are valid if omitted.

    Returns:
        ``(P, K)`` bool; column k belongs to box k of the point's own sample.

    Raises:
        ValueError: On wrong shapes or types.
    """
    if points.dim() != 2 or points.shape[1] < 3 or boxes.dim() != 3 or boxes.shape[2] < 7:
        raise ValueError(
            f'points must be (P, >=3) and boxes (B, K, 7), got {tuple(points.shape)} and '
            f'{tuple(boxes.shape)}'
        )
    if len(batch_idx) != len(points):
        raise ValueError(f'{len(batch_idx)} batch indices for {len(points)} points')
    if not (points.is_floating_point() and boxes.is_floating_point()):
        raise ValueError(f'points and boxes must be floats, got {points.dtype}, {boxes.dtype}')
    if valid is None:
        valid = torch.ones(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
    dtype = torch.promote_types(torch.promote_types(points.dtype, boxes.dtype), torch.float32)
    points, boxes = points[:, :3].to(dtype), boxes[..., :7].to(dtype)
    if points.device.type == 'cpu':
        return _near_then_exact(points, batch_idx, boxes, valid)
    inside = _inside(points[:, None], boxes[batch_idx])
    return inside & valid[batch_idx]


def _near_then_exact(points: Tensor, batch_idx: Tensor, boxes: Tensor, valid: Tensor) -> Tensor:
    """Tests only the pairs whose squared ground distance, by one product, is small enough."""
    hits = torch.zeros(len(points), boxes.shape[1], dtype=torch.bool)
    if not hits.numel():
        return hits
    # |p - c|^2 - r^2 <= 0 as (x, y, x^2 + y^2, 1) . (-2 cx, -2 cy, 1, |c|^2 - r^2)
    centre = boxes[..., :2]
    square = centre.square().sum(-1)
    radius_square = boxes[..., 3:5].square().sum(-1) / 4
    slack = 0.1 + 1e-5 * (square + radius_square)
    ones = torch.ones_like(square)
    plane = torch.stack((*(-2 * centre).unbind(-1), ones, square - radius_square - slack), 1)
    xy = points[:, :2]
    lifted = torch.cat((xy, xy.square().sum(-1, keepdim=True), ones.new_ones(len(xy), 1)), 1)
    for sample in range(len(boxes)):
        columns = valid[sample].nonzero().squeeze(1)
        rows = (batch_idx == sample).nonzero().squeeze(1)
        if not len(rows) or not len(columns):
            continue
        first, last = int(rows[0]), int(rows[-1]) + 1
        block = lifted[first:last] if last - first == len(rows) else lifted[rows]
        with torch.autocast('cpu', enabled=False):
            near = (block @ plane[sample][:, columns] <= 0).nonzero()
        row, column = rows[near[:, 0]], columns[near[:, 1]]
        hits[row, column] = _inside(points[row], boxes[sample, column])
    return hits


def _inside(points: Tensor, boxes: Tensor) -> Tensor:
    """Tests points ``(..., 3)`` against boxes ``(..., 7)`` pair by pair."""
    dx, dy, dz = (points[..., i] - boxes[..., i] for i in range(3))
    size = boxes[..., 3:6] / 2
    cos, sin = boxes[..., 6].cos(), boxes[..., 6].sin()
    along = (dx * cos + dy * sin).abs() <= size[..., 0]
    across = (dy * cos - dx * sin).abs() <= size[..., 1]
    return along & across & ((dz - size[..., 2]).abs() <= size[..., 2])
