"""Rotated box geometry in the ground plane, batched and free of host synchronisation.

A box is ``[x, y, z, dx, dy, dz, yaw]`` in the LiDAR frame: ``(x, y)`` is the centre, ``z`` the
height of the *bottom* face, sizes are metres, ``yaw`` turns counter-clockwise about z (radians).
This is the memory layout of mmdet3d's ``LiDARInstance3DBoxes.tensor``.

The area of two rectangles' intersection is computed in the frame of the first one, where it is
``[-W, W] x [-H, H]``. Let ``F(x, y) = (clamp(x, W), clamp(y, H))``. Its Jacobian is one inside
the rectangle and zero outside, so by Green's theorem the intersection with a polygon Q has area

    |Q cut R| = integral over Q of det DF = closed integral along dQ of clamp(x) d clamp(y).

Along an edge both factors are piecewise linear, so the integral is three trapezoids per edge. No
vertex is sorted, searched or masked: collinear edges, identical boxes and half turns are ordinary
input, and the result depends continuously on all parameters.
"""

import torch
from torch import Tensor

_PAIRS_PER_BLOCK = 1 << 19


def corners_bev(boxes: Tensor) -> Tensor:
    """Returns the corners of the boxes' footprints.

    Args:
        boxes: ``(..., 7)`` boxes, see the module's docstring.

    Returns:
        ``(..., 4, 2)`` corners in metres, counter-clockwise, the front-left one first.

    Raises:
        ValueError: If the last dimension has fewer than 7 numbers or the type is not a float.
    """
    x, y, dx, dy, yaw = _footprint(boxes, 'boxes')
    cos, sin = yaw.cos(), yaw.sin()
    along, across = torch.stack((cos, sin), -1), torch.stack((-sin, cos), -1)
    along, across = along * (dx / 2)[..., None], across * (dy / 2)[..., None]
    offsets = torch.stack((along + across, across - along, -along - across, along - across), -2)
    return offsets + torch.stack((x, y), -1)[..., None, :]


def bev_overlap_area_pairs(a: Tensor, b: Tensor) -> Tensor:
    """Returns the intersection area of the footprints of pairs of boxes.

    Exactly zero for footprints that only touch or that :func:`bev_collides` separates.

    Args:
        a: ``(..., 7)`` boxes.
        b: Boxes whose leading dimensions broadcast with those of ``a``.

    Returns:
        Areas in square metres, of the broadcast leading shape.

    Raises:
        ValueError: On wrong shapes or types.
    """
    wx, wy, u, v, hx, hy, cos, sin = _relative(a, b)
    exx, exy, eyx, eyy = hx * cos, hx * sin, -hy * sin, hy * cos
    x = torch.stack((u + exx + eyx, u - exx + eyx, u - exx - eyx, u + exx - eyx))
    y = torch.stack((v + exy + eyy, v - exy + eyy, v - exy - eyy, v + exy - eyy))
    dx = torch.stack((-2 * exx, -2 * eyx, 2 * exx, 2 * eyx))
    dy = torch.stack((-2 * exy, -2 * eyy, 2 * exy, 2 * eyy))
    # Along an edge, clamp(y) moves only between the parameters t0 and t1, and clamp(x) has its
    # kinks at s0 and s1.
    below, above = _crossings(y, dy, wy)
    t0, t1 = below.clamp_(0, 1), above.clamp_(0, 1)
    left, right = _crossings(x, dx, wx)
    s0 = torch.minimum(torch.maximum(left, t0), t1)
    s1 = torch.minimum(torch.maximum(right, t0), t1)
    x_t0, x_s0, x_s1, x_t1 = (torch.clamp(x + dx * t, -wx, wx) for t in (t0, s0, s1, t1))
    strips = (s0 - t0) * (x_t0 + x_s0) + (s1 - s0) * (x_s0 + x_s1) + (t1 - s1) * (x_s1 + x_t1)
    area = (0.5 * dy * strips).sum(0).clamp(min=0)
    overlapping = _overlapping(wx, wy, u, v, hx, hy, cos, sin)
    return torch.where(overlapping & area.isfinite(), area, torch.zeros_like(area))


def bev_iou_pairs(a: Tensor, b: Tensor) -> Tensor:
    """Returns the IoU of the footprints of pairs of boxes.

    Args:
        a: ``(..., 7)`` boxes.
        b: Boxes whose leading dimensions broadcast with those of ``a``.

    Returns:
        IoU in [0, 1]; 0 for boxes of no size or with numbers that are not finite.

    Raises:
        ValueError: On wrong shapes or types.
    """
    inter = bev_overlap_area_pairs(a, b)
    return _over_union(inter, _product(a, 3, 4), _product(b, 3, 4))


def iou_3d_pairs(a: Tensor, b: Tensor) -> Tensor:
    """Returns the volume IoU of pairs of boxes.

    Args:
        a: ``(..., 7)`` boxes.
        b: Boxes whose leading dimensions broadcast with those of ``a``.

    Returns:
        IoU in [0, 1]; 0 for boxes of no size or with numbers that are not finite.

    Raises:
        ValueError: On wrong shapes or types.
    """
    inter = bev_overlap_area_pairs(a, b) * _common_height(a, b).to(_working_type(a, b))
    return _over_union(inter, _product(a, 3, 4, 5), _product(b, 3, 4, 5))


def bev_overlap_area(a: Tensor, b: Tensor) -> Tensor:
    """Returns the intersection areas of all footprints of ``a`` with all of ``b``.

    Args:
        a: ``(..., N, 7)`` boxes.
        b: ``(..., M, 7)`` boxes with the same (or broadcastable) leading dimensions.

    Returns:
        ``(..., N, M)`` areas in square metres.

    Raises:
        ValueError: On wrong shapes or types.
    """
    return _all_pairs(bev_overlap_area_pairs, a, b)


def bev_iou(a: Tensor, b: Tensor) -> Tensor:
    """Returns the IoU of all footprints of ``a`` with all of ``b``.

    Args:
        a: ``(..., N, 7)`` boxes.
        b: ``(..., M, 7)`` boxes with the same (or broadcastable) leading dimensions.

    Returns:
        ``(..., N, M)`` IoU in [0, 1]; 0 for boxes of no size.

    Raises:
        ValueError: On wrong shapes or types.
    """
    return _all_pairs(bev_iou_pairs, a, b)


def iou_3d(a: Tensor, b: Tensor) -> Tensor:
    """Returns the volume IoU of all boxes of ``a`` with all of ``b``.

    Args:
        a: ``(..., N, 7)`` boxes.
        b: ``(..., M, 7)`` boxes with the same (or broadcastable) leading dimensions.

    Returns:
        ``(..., N, M)`` IoU in [0, 1]; 0 for boxes of no size.

    Raises:
        ValueError: On wrong shapes or types.
    """
    return _all_pairs(iou_3d_pairs, a, b)


def bev_collides(a: Tensor, b: Tensor) -> Tensor:
    """Tells which footprints share interior points, by the separating axes of both boxes.

    Args:
        a: ``(..., N, 7)`` boxes.
        b: ``(..., M, 7)`` boxes with the same (or broadcastable) leading dimensions.

    Returns:
        ``(..., N, M)`` bool. Boxes that only touch do not collide, boxes of no size never do.

    Raises:
        ValueError: On wrong shapes or types.
    """
    return _all_pairs(lambda p, q: _overlapping(*_relative(p, q)), a, b)


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
    if points.dim() != 2 or points.shape[1] < 3 or boxes.dim() != 3:
        raise ValueError(
            f'points must be (P, >=3) and boxes (B, K, 7), got {tuple(points.shape)} and '
            f'{tuple(boxes.shape)}'
        )
    if len(batch_idx) != len(points):
        raise ValueError(f'{len(batch_idx)} batch indices for {len(points)} points')
    _check(boxes, 'boxes')
    boxes = boxes[..., :7]
    if valid is None:
        valid = torch.ones(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
    points = points[:, :3].to(_working_type(points, boxes))
    boxes = boxes.to(points.dtype)
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


def _check(boxes: Tensor, name: str) -> None:
    if boxes.shape[-1:] == () or boxes.shape[-1] < 7 or not boxes.is_floating_point():
        raise ValueError(
            f'{name} must be floating point boxes (..., 7) [x, y, z_bottom, dx, dy, dz, yaw], '
            f'got {tuple(boxes.shape)} of {boxes.dtype}'
        )


def _working_type(a: Tensor, b: Tensor) -> torch.dtype:
    return torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)


def _footprint(boxes: Tensor, name: str) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    _check(boxes, name)
    x, y, _, dx, dy, _, yaw = boxes[..., :7].unbind(-1)
    return x, y, dx, dy, yaw


def _relative(a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    """Half sizes of a; centre (u, v) and half sizes of b, and its turn, in the frame of a."""
    dtype = _working_type(a, b)
    ax, ay, adx, ady, ayaw = _footprint(a.to(dtype), 'a')
    bx, by, bdx, bdy, byaw = _footprint(b.to(dtype), 'b')
    x, y = bx - ax, by - ay
    cos, sin = ayaw.cos(), ayaw.sin()
    turn = byaw - ayaw
    half_sizes = [size.clamp(min=0) / 2 for size in (adx, ady, bdx, bdy)]
    u, v = x * cos + y * sin, y * cos - x * sin
    return (*half_sizes[:2], u, v, *half_sizes[2:], turn.cos(), turn.sin())


def _overlapping(wx, wy, u, v, hx, hy, cos, sin) -> Tensor:
    """Separating axis test on the numbers of :func:`_relative`."""
    c, s = cos.abs(), sin.abs()
    on_a = (u.abs() < wx + hx * c + hy * s) & (v.abs() < wy + hx * s + hy * c)
    along, across = (u * cos + v * sin).abs(), (v * cos - u * sin).abs()
    on_b = (along < hx + wx * c + wy * s) & (across < hy + wx * s + wy * c)
    return on_a & on_b & (wx > 0) & (wy > 0) & (hx > 0) & (hy > 0)


def _crossings(start: Tensor, step: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    """Parameters t, in order, at which ``start + t * step`` passes -limit and +limit."""
    inverse = torch.where(step.abs() < 1e-30, torch.full_like(step, 1e-30), step).reciprocal()
    one, two = (-limit - start) * inverse, (limit - start) * inverse
    return torch.minimum(one, two), torch.maximum(one, two)


def _common_height(a: Tensor, b: Tensor) -> Tensor:
    top = torch.minimum(a[..., 2] + a[..., 5], b[..., 2] + b[..., 5])
    return (top - torch.maximum(a[..., 2], b[..., 2])).clamp(min=0)


def _product(boxes: Tensor, *columns: int) -> Tensor:
    size = boxes[..., columns[0]].clamp(min=0)
    for column in columns[1:]:
        size = size * boxes[..., column].clamp(min=0)
    return size


def _over_union(inter: Tensor, size_a: Tensor, size_b: Tensor) -> Tensor:
    union = size_a + size_b - inter
    iou = inter / torch.where(union > 0, union, torch.ones_like(union))
    return torch.where(iou.isfinite() & (union > 0), iou.clamp(0, 1), torch.zeros_like(iou))


def _all_pairs(function, a: Tensor, b: Tensor) -> Tensor:
    """Applies a function of pairs to all of ``(..., N)`` x ``(..., M)``, in blocks of rows."""
    _check(a, 'a')
    _check(b, 'b')
    if a.dim() < 2 or b.dim() < 2:
        raise ValueError(
            f'boxes must be (..., N, 7) and (..., M, 7), got {tuple(a.shape)}, {tuple(b.shape)}'
        )
    lead = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    rows = max(1, _PAIRS_PER_BLOCK // max(1, b.shape[-2] * lead.numel()))
    b = b[..., None, :, :]
    parts = [function(block[..., :, None, :], b) for block in a.split(rows, dim=-2)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, -2)
