"""Non-maximum suppression of rotated boxes by exact overlaps.

A box goes when its IoU with a better one that stays is *above* the threshold, as in mmcv's CUDA
kernels (its CPU kernel also drops those at the threshold). Equal scores keep their order.
"""

import numpy as np
import torch
from torch import Tensor

from mmdistill.det3d.boxes import bev_iou_pairs
from mmdistill.det3d.cpu_ops.rotated_iou import footprints

_BLOCK = 256


def nms_rotated(
    dets: Tensor,
    scores: Tensor,
    iou_threshold: float,
    labels: Tensor | None = None,
    clockwise: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """Suppresses rotated rectangles.

    Args:
        dets: ``(N, 5)`` rectangles ``[x, y, width, height, angle]``.
        scores: ``(N,)`` scores.
        iou_threshold: IoU above which the worse one goes.
        labels: ``(N,)`` classes; rectangles of different classes do not meet.
        clockwise: see :func:`~mmdistill.det3d.cpu_ops.rotated_iou.footprints`.

    Returns:
        ``(K, 6)`` kept rectangles with their scores, best first, and their ``(K,)`` indices. As in
        mmcv, ``dets`` itself and None if there are none.
    """
    if not len(dets):
        return dets, None
    keep = _keep(footprints(dets, clockwise), scores, iou_threshold, labels)
    return torch.cat((dets[keep], scores[keep, None]), 1), keep


def nms3d(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Suppresses boxes by the IoU of their footprints (mmcv's name for it).

    Args:
        boxes: ``(N, 7)`` boxes.
        scores: ``(N,)`` scores.
        iou_threshold: IoU above which the worse one goes.

    Returns:
        ``(K,)`` indices of kept boxes, best first.
    """
    return _keep(boxes, scores, iou_threshold)


def nms3d_normal(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """As :func:`nms3d`, with all headings taken for zero."""
    straight = boxes.clone()
    straight[:, 6] = 0
    return _keep(straight, scores, iou_threshold)


@torch.no_grad()
def _keep(boxes: Tensor, scores: Tensor, threshold: float, labels: Tensor | None = None) -> Tensor:
    """Indices of the kept boxes (N, 7), block by block in the order of their scores."""
    left = scores.sort(descending=True, stable=True).indices
    kept = []
    while len(left):
        block, left = left[:_BLOCK], left[_BLOCK:]
        stays = block[_greedy(_above(boxes, block, block, threshold, labels))]
        kept.append(stays)
        left = left[~_above(boxes, stays, left, threshold, labels).any(0)]
    return torch.cat(kept) if kept else left


def _greedy(above: Tensor) -> Tensor:
    """Positions that stay, given which ``(K, K)`` overlap too much, in order of their scores."""
    above = above.numpy()
    gone = np.zeros(len(above), bool)
    for row in range(len(above)):
        if not gone[row]:
            gone[row + 1 :] |= above[row, row + 1 :]
    return torch.from_numpy(~gone).nonzero().squeeze(1)


def _above(
    boxes: Tensor, rows: Tensor, columns: Tensor, threshold: float, labels: Tensor | None
) -> Tensor:
    """Which pairs of boxes overlap more than the threshold, bool (rows, columns)."""
    a, b = boxes[rows], boxes[columns]
    radius_a, radius_b = (each[:, 3:5].norm(dim=1) / 2 for each in (a, b))
    distance = torch.cdist(a[:, :2], b[:, :2], compute_mode='donot_use_mm_for_euclid_dist')
    near = distance <= 1.001 * (radius_a[:, None] + radius_b)
    # IoU is at most the smaller area over the larger one.
    area_a, area_b = (each[:, 3] * each[:, 4] for each in (a, b))
    small = 0.999 * threshold
    near &= (area_a[:, None] >= small * area_b) & (area_b >= small * area_a[:, None])
    if labels is not None:
        near &= labels[rows][:, None] == labels[columns]
    row, column = near.nonzero(as_tuple=True)
    near[row, column] = bev_iou_pairs(a[row], b[column]) > threshold
    return near
