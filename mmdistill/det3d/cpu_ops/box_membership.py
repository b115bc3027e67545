"""Which boxes hold which points, with the exact edge rules of mmcv's kernels.

mmcv has one CPU kernel, ``points_in_boxes_cpu``; its CUDA ones answer the same question in other
forms. Points on side faces are outside, points on the bottom and the top are inside.
"""

import torch
from mmcv.ops import points_in_boxes_cpu
from torch import Tensor


def points_in_boxes_all(points: Tensor, boxes: Tensor) -> Tensor:
    """Tells for every box which points lie in it.

    Args:
        points: ``(B, N, 3)`` points.
        boxes: ``(B, K, 7)`` boxes, z is that of the bottom face.

    Returns:
        ``(B, N, K)`` int32, 1 inside and 0 outside.
    """
    return points_in_boxes_cpu(points.detach(), boxes.detach())


def points_in_boxes_part(points: Tensor, boxes: Tensor) -> Tensor:
    """Finds the first box in which a point lies.

    Args:
        points: ``(B, N, 3)`` points.
        boxes: ``(B, K, 7)`` boxes, z is that of the bottom face.

    Returns:
        ``(B, N)`` int32 indices of boxes, -1 for points in none.
    """
    if not boxes.shape[1]:
        return points.new_full(points.shape[:2], -1, dtype=torch.int32)
    inside, first = points_in_boxes_all(points, boxes).max(2)
    return torch.where(inside > 0, first, -1).int()
