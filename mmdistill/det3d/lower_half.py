"""Duplicates among pseudo boxes: of each cluster the better half stays."""

import torch
from torch import Tensor

from mmdistill.det3d.boxes import iou_3d


def upper_half(boxes: Tensor, labels: Tensor, scores: Tensor, iou_thr: float) -> Tensor:
    """Which boxes survive a suppression of the lower half of every cluster.

    The best box that is left and all others of its class that overlap it by more than ``iou_thr``
    are a cluster; its lower half by score goes, the larger half of an odd one stays. An ordinary
    non-maximum suppression would leave one box of it.

    Args:
        boxes: (N, 7 + V) boxes in metres.
        labels: (N,) class indices.
        scores: (N,) scores, for 3DIoUMatch the predicted overlaps.
        iou_thr: 3D overlap of a cluster.

    Returns:
        (N,) bool.
    """
    near = iou_3d(boxes[None], boxes[None])[0] > iou_thr
    near &= labels[:, None] == labels[None]
    # clusters follow from each other: on the host, for one wait instead of two per cluster
    near, left = near.cpu(), scores.argsort(descending=True, stable=True).cpu()
    kept = torch.zeros(len(labels), dtype=torch.bool)
    while len(left):
        cluster = near[left[0], left]
        cluster[0] = True
        members = left[cluster]
        kept[members[: (len(members) + 1) // 2]] = True
        left = left[~cluster]
    return kept.to(labels.device)
