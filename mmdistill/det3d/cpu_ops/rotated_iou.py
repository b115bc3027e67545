"""mmcv's overlaps of rotated boxes by the exact areas of :mod:`mmdistill.det3d.boxes`.

mmcv 2.1.0 sorts the corners of intersection polygons on the CPU and loses some where edges are
collinear: boxes slid along their heading or turned by half a turn can get 0.
"""

import torch
from torch import Tensor

from mmdistill.det3d.boxes import bev_overlap_area, bev_overlap_area_pairs, iou_3d


def footprints(rows: Tensor, clockwise: bool = True) -> Tensor:
    """Flat rectangles as boxes.

    Args:
        rows: ``(N, >=5)`` rows ``[x, y, width, height, angle]``.
        clockwise: mmcv's name for angles that turn x towards y; False turns them around.

    Returns:
        ``(N, 7)`` boxes of no height.
    """
    x, y, width, height, angle = rows[:, :5].unbind(1)
    none = torch.zeros_like(x)
    return torch.stack((x, y, none, width, height, none, angle if clockwise else -angle), 1)


@torch.no_grad()
def box_iou_rotated(
    bboxes1: Tensor,
    bboxes2: Tensor,
    mode: str = 'iou',
    aligned: bool = False,
    clockwise: bool = True,
) -> Tensor:
    """Overlaps of rotated rectangles.

    Args:
        bboxes1: ``(N, 5)`` rectangles ``[x, y, width, height, angle]``.
        bboxes2: ``(M, 5)`` rectangles.
        mode: ``iou``, or ``iof`` for the share of the first one.
        aligned: only pairs of the same row.
        clockwise: see :func:`footprints`.

    Returns:
        ``(N, M)`` overlaps in [0, 1], or ``(N,)`` if aligned; 0 where an area is 0.

    Raises:
        ValueError: If there is no such mode.
    """
    if mode not in ('iou', 'iof'):
        raise ValueError(f"mode must be 'iou' or 'iof', got {mode!r}")
    overlap = bev_overlap_area_pairs if aligned else bev_overlap_area
    inter = overlap(footprints(bboxes1, clockwise), footprints(bboxes2, clockwise))
    one, two = (boxes[:, 2].clamp(min=0) * boxes[:, 3].clamp(min=0) for boxes in (bboxes1, bboxes2))
    whole = one if aligned else one[:, None]
    if mode == 'iou':
        whole = whole + two - inter
    ratio = inter / torch.where(whole > 0, whole, torch.ones_like(whole))
    return ratio.clamp(0, 1).to(bboxes1.dtype)


@torch.no_grad()
def boxes_overlap_bev(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """Shared areas of the footprints of ``(M, 7)`` and ``(N, 7)`` boxes, ``(M, N)``."""
    return bev_overlap_area(boxes_a, boxes_b)


@torch.no_grad()
def boxes_iou3d(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """Volume IoU of all pairs of boxes.

    Args:
        boxes_a: ``(M, 7)`` boxes, z is that of the *centre*, as mmcv's function has it.
        boxes_b: ``(N, 7)`` boxes.

    Returns:
        ``(M, N)`` IoU in [0, 1].
    """
    return iou_3d(_on_bottom(boxes_a), _on_bottom(boxes_b))


def _on_bottom(boxes: Tensor) -> Tensor:
    """Moves z from the centre to the bottom face."""
    boxes = boxes.clone()
    boxes[:, 2] -= boxes[:, 5] / 2
    return boxes
