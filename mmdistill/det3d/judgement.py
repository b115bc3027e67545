"""What the teacher says of scenes in two views, and the records that mining rounds make of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from torch import Tensor

from mmdistill.det3d.box_batch import BoxBatch
from mmdistill.det3d.boxes import bev_iou


@dataclass(frozen=True)
class Judgement:
    """The teacher's boxes of some scenes in both views, and what is known of them.

    Attributes:
        weak: boxes of the raw view, (B, N).
        other: boxes of the augmented view in raw coordinates, (B, M).
        scores: (B, N, S) scores of the raw view.
        trusted: (B, N) overlap sum of each raw box with labels and stored boxes.
        trusted_other: (B, M) the same of the other view.
        points: (B, N) points inside each raw box.
    """

    weak: BoxBatch
    other: BoxBatch
    scores: Tensor
    trusted: Tensor
    trusted_other: Tensor
    points: Tensor

    def with_other(self, other: BoxBatch, trusted: Tensor) -> Judgement:
        """The same with the boxes of another augmented view."""
        return replace(self, other=other, trusted_other=trusted)


def rows_of(found: Judgement, rows: Tensor) -> Judgement:
    """Some scenes of a judgement."""
    parts = {}
    for field in fields(found):
        value = getattr(found, field.name)
        parts[field.name] = value.select(rows) if isinstance(value, BoxBatch) else value[rows]
    return Judgement(**parts)


def matched_pairs(
    weak: BoxBatch,
    other: BoxBatch,
    matched: Tensor,
    matched_other: Tensor,
    pairs: str = 'all',
    iou: Callable[[Tensor, Tensor], Tensor] = bev_iou,
) -> tuple[Tensor, Tensor, Tensor]:
    """Overlaps between trusted boxes of the two views (hssda 1.4, S_iou).

    Args:
        weak: teacher's boxes of the raw view, (B, N).
        other: those of the augmented view in raw coordinates, (B, M).
        matched: (B, N) which of the raw boxes are trusted.
        matched_other: (B, M) the same of the other view.
        pairs: ``'all'`` positive pairs of one class, or the ``'best'`` of each box.
        iou: the overlap, (B, N, 7), (B, M, 7) -> (B, N, M).

    Returns:
        (n,) overlaps, classes and scenes, in ascending order of scenes.
    """
    if min(weak.boxes.shape[1], other.boxes.shape[1]) == 0:
        return weak.boxes.new_zeros(0), weak.labels.new_zeros(0), weak.labels.new_zeros(0)
    matched, matched_other = matched & weak.valid, matched_other & other.valid
    alike = weak.labels[..., None] == other.labels[:, None]
    overlap = iou(weak.boxes, other.boxes) * (alike & matched[..., None] & matched_other[:, None])
    if pairs == 'best':
        overlap = overlap.amax(-1, keepdim=True)
    labels = weak.labels[..., None].expand_as(overlap)
    found = overlap > 0
    return overlap[found], labels[found], found.nonzero()[:, 0]
