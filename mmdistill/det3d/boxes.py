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

from mmdistill.det3d.box_points import points_in_batch_boxes, points_in_boxes

__all__ = [
    'bev_collides',
    'bev_iou',
    'bev_iou_pairs',
    'bev_overlap_area',
    'bev_overlap_area_pairs',
    'corners_bev',
    'iou_3d',
    'iou_3d_pairs',
    'points_in_batch_boxes',
    'points_in_boxes',
]

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
    _check(boxes, 'boxes')
    x, y, dx, dy, yaw = _footprint(boxes)
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
    relative = _relative(a, b)
    overlapping = _overlapping(*relative)
    zero = torch.zeros_like(relative[2])
    if zero.device.type != 'cpu':
        area = _clipped_area(*relative)
        return torch.where(overlapping, area, zero)
    area = _clipped_area(*(number.expand_as(zero)[overlapping] for number in relative))
    return zero.masked_scatter(overlapping, area)


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
    a, b = _floats(a, b)
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
    a, b = _floats(a, b)
    inter = bev_overlap_area_pairs(a, b) * _common_height(a, b)
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


def _check(boxes: Tensor, name: str) -> None:
    """Refuses what is no float tensor of boxes."""
    if boxes.dim() < 1 or boxes.shape[-1] < 7 or not boxes.is_floating_point():
        raise ValueError(
            f'{name} must be floating point boxes (..., 7) [x, y, z_bottom, dx, dy, dz, yaw], '
            f'got {tuple(boxes.shape)} of {boxes.dtype}'
        )


def _floats(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both in their common type, at least float32."""
    _check(a, 'a')
    _check(b, 'b')
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    return a.to(dtype), b.to(dtype)


def _footprint(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Columns x, y, dx, dy, yaw."""
    x, y, _, dx, dy, _, yaw = boxes[..., :7].unbind(-1)
    return x, y, dx, dy, yaw


def _relative(a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    """Half sizes of a; centre (u, v) and half sizes of b, and its turn, in the frame of a."""
    a, b = _floats(a, b)
    ax, ay, adx, ady, ayaw = _footprint(a)
    bx, by, bdx, bdy, byaw = _footprint(b)
    x, y = bx - ax, by - ay
    cos, sin = ayaw.cos(), ayaw.sin()
    turn = byaw - ayaw
    half_sizes = [size.clamp(min=0) / 2 for size in (adx, ady, bdx, bdy)]
    u, v = x * cos + y * sin, y * cos - x * sin
    return (*half_sizes[:2], u, v, *half_sizes[2:], turn.cos(), turn.sin())


def _clipped_area(wx, wy, u, v, hx, hy, cos, sin) -> Tensor:
    """The contour integral of the module's docstring on the numbers of :func:`_relative`."""
    exx, exy, eyx, eyy = hx * cos, hx * sin, -hy * sin, hy * cos
    x = torch.stack((u + exx + eyx, u - exx + eyx, u - exx - eyx, u + exx - eyx))
    y = torch.stack((v + exy + eyy, v - exy + eyy, v - exy - eyy, v + exy - eyy))
    dx = torch.stack((-2 * exx, -2 * eyx, 2 * exx, 2 * eyx))
    dy = torch.stack((-2 * exy, -2 * eyy, 2 * exy, 2 * eyy))
    # Along an edge clamp(y) moves only between t0 and t1; clamp(x) has its kinks at s0 and s1.
    t0, t1 = (t.clamp(0, 1) for t in _crossings(y, dy, wy))
    s0, s1 = (torch.minimum(torch.maximum(s, t0), t1) for s in _crossings(x, dx, wx))
    x_t0, x_s0, x_s1, x_t1 = (torch.clamp(x + dx * t, -wx, wx) for t in (t0, s0, s1, t1))
    strips = (s0 - t0) * (x_t0 + x_s0) + (s1 - s0) * (x_s0 + x_s1) + (t1 - s1) * (x_s1 + x_t1)
    return (0.5 * dy * strips).sum(0).clamp(min=0).nan_to_num(0, 0, 0)


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
    """Length that the vertical spans share."""
    top = torch.minimum(a[..., 2] + a[..., 5], b[..., 2] + b[..., 5])
    return (top - torch.maximum(a[..., 2], b[..., 2])).clamp(min=0)


def _product(boxes: Tensor, *columns: int) -> Tensor:
    """Product of sizes, negative ones counting as none."""
    size = boxes[..., columns[0]].clamp(min=0)
    for column in columns[1:]:
        size = size * boxes[..., column].clamp(min=0)
    return size


def _over_union(inter: Tensor, size_a: Tensor, size_b: Tensor) -> Tensor:
    """IoU from an intersection; 0 where it is no number."""
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
