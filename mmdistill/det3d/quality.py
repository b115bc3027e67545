"""How good are the pseudo labels: counts per class, and precision where hidden truth exists."""

from collections.abc import Sequence

import torch
from mmdet3d.structures import Det3DDataSample
from torch import Tensor

from mmdistill.core.pseudo import PseudoStats
from mmdistill.det3d.box_batch import BoxBatch
from mmdistill.det3d.boxes import bev_iou

MATCH_IOU = 0.5


def per_class(labels: Tensor, mask: Tensor, num_classes: int) -> Tensor:
    """(C,) number of masked entries of each class; negative labels count nowhere."""
    one_hot = labels[..., None] == torch.arange(num_classes, device=labels.device)
    return (one_hot & mask[..., None]).flatten(0, -2).sum(0)


def hidden_stats(
    found: BoxBatch,
    kept: BoxBatch,
    scores: Tensor,
    samples: Sequence[Det3DDataSample],
    num_classes: int,
) -> PseudoStats:
    """Counts of one batch of unlabelled scenes.

    A kept box is right when it and a hidden box of its class overlap each other best and by
    ``MATCH_IOU`` from above: an object is found once, so recall stays below 1.

    Args:
        found: all boxes of the teacher.
        kept: the boxes used as labels.
        scores: (B, N, S) scores of ``found``; the first one is reported.
        samples: data samples; hidden truth is read from the meta entry ``hidden`` (a pair of
            (M, 7) boxes and (M,) labels), which nothing in training reads.
        num_classes: number of classes C.
    """
    hidden = [sample.metainfo.get('hidden') for sample in samples]
    counts = dict(
        kept=per_class(kept.labels, kept.valid, num_classes),
        total=per_class(found.labels, found.valid, num_classes),
        scores=scores[..., 0][found.valid],
    )
    if any(each is None for each in hidden):
        return PseudoStats(true_positive=None, hidden=None, **counts)
    truth = BoxBatch.from_lists(
        [torch.as_tensor(each[0]).to(found.boxes) for each in hidden],
        [torch.as_tensor(each[1]).to(found.labels) for each in hidden],
    )
    right = torch.zeros_like(kept.valid)
    if truth.boxes.shape[1] and kept.boxes.shape[1]:
        alike = (kept.labels[..., None] == truth.labels[:, None]) & truth.valid[:, None]
        overlap = bev_iou(kept.boxes, truth.boxes) * (alike & kept.valid[..., None])
        best_label = overlap.argmax(1)  # of each hidden box
        best, owner = overlap.max(-1)
        mutual = best_label.gather(1, owner) == torch.arange(overlap.shape[1], device=owner.device)
        right = (best >= MATCH_IOU) & mutual
    return PseudoStats(
        true_positive=per_class(kept.labels, right, num_classes),
        hidden=per_class(truth.labels, truth.valid, num_classes),
        **counts,
    )
