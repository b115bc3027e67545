"""What a mining round of HSSDA makes of the teacher's judgement, as functions of records.

A record is a dict of CPU tensors of one frame: ``boxes`` (N, 7 + V), ``labels`` (N,), ``scores``
(N, S), ``trusted`` (N,) overlap sums, ``points`` (N,) counts, ``pair_iou`` and ``pair_label`` (P,)
of its two views, and the numbers ``frame`` and ``labeled``.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mmdistill.det3d.boxes import bev_iou
from mmdistill.det3d.judgement import Judgement


def records_of(
    found: Judgement,
    pools: Sequence[tuple[Tensor, Tensor]],
    frames: Sequence[int],
    labeled: Sequence[bool],
) -> list[dict]:
    """One record of CPU tensors per frame, without padding.

    Args:
        found: judgement of B scenes.
        pools: (B,) overlaps between their views, and the classes of these.
        frames: (B,) ids.
        labeled: (B,) whether they have labels.
    """
    records = []
    for row, frame in enumerate(frames):
        valid = found.weak.valid[row]
        record = dict(
            boxes=found.weak.boxes[row][valid],
            labels=found.weak.labels[row][valid],
            scores=found.scores[row][valid],
            trusted=found.trusted[row][valid],
            points=found.points[row][valid],
            pair_iou=pools[row][0],
            pair_label=pools[row][1],
        )
        record = {name: value.cpu() for name, value in record.items()}
        records.append(dict(record, frame=frame, labeled=labeled[row]))
    return records


def joined(pools: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Overlaps and classes of several views as one pool."""
    overlaps, classes = zip(*pools, strict=True)
    return torch.cat(overlaps), torch.cat(classes)


def by_frame(records: Sequence[dict]) -> list[dict]:
    """One record a frame in ascending order; a frame that stands in for a broken one has two."""
    once = {record['frame']: record for record in records}
    return [once[frame] for frame in sorted(once)]


def every_box(records: Sequence[dict], name: str) -> Tensor:
    """An entry of all records, one row a box (or pair); ``frame`` and ``labeled`` are repeated."""
    if name in ('frame', 'labeled'):
        counts = torch.tensor([len(record['labels']) for record in records])
        return torch.tensor([record[name] for record in records]).repeat_interleave(counts)
    return torch.cat([record[name] for record in records])


def score_pools(
    records: Sequence[dict], names: Sequence[str], classes: int, match_iou: float
) -> dict[tuple[str, int], Tensor]:
    """Scores of trusted predictions over all frames (hssda 1.4).

    Args:
        records: of a round, at least one.
        names: of the scores; the pool of ``view_iou`` holds the overlaps of the views instead.
        classes: number of classes.
        match_iou: overlap sum from which a prediction is trusted.

    Returns:
        (n,) scores by (score name, class).
    """
    trusted = every_box(records, 'trusted') >= match_iou
    labels, scores = (every_box(records, name)[trusted] for name in ('labels', 'scores'))
    pair_iou, pair_label = (every_box(records, name) for name in ('pair_iou', 'pair_label'))
    pools = {}
    for column, name in enumerate(names):
        for label in range(classes):
            own = scores[labels == label, column]
            pools[name, label] = pair_iou[pair_label == label] if name == 'view_iou' else own
    return pools


def mined_boxes(
    records: Sequence[dict], high: Tensor, min_points: int, confidence: int
) -> dict[str, Tensor]:
    """New boxes for the store: of the high level, with points, that touch no kept box (hssda 1.5).

    Args:
        records: of a round.
        high: (N,) which of their N boxes are of the high level.
        min_points: inside a box.
        confidence: column of the score that is stored.

    Returns:
        ``frames``, ``boxes``, ``labels`` and ``scores`` of the mined boxes.
    """
    mined = high & (every_box(records, 'trusted') == 0) & ~every_box(records, 'labeled')
    mined &= every_box(records, 'points') >= min_points
    return dict(
        frames=every_box(records, 'frame')[mined],
        boxes=every_box(records, 'boxes')[mined],
        labels=every_box(records, 'labels')[mined],
        scores=every_box(records, 'scores')[mined, confidence],
    )


def fallen_boxes(
    stored: Mapping[str, Tensor],
    records: Sequence[dict],
    passed: Tensor,
    match_iou: float,
) -> Tensor:
    """Stored boxes on which no prediction of their class passes the low thresholds.

    Args:
        stored: ``boxes`` (S, 7 + V), ``labels`` and ``frames`` (S,).
        records: of a round; boxes of other frames stay.
        passed: (N,) which of their N boxes pass.
        match_iou: overlap from which a prediction lies on a box.

    Returns:
        (S,) bool.
    """
    boxes, labels, frames = (stored[name] for name in ('boxes', 'labels', 'frames'))
    known = set(frames.tolist())
    fallen = torch.zeros(len(boxes), dtype=torch.bool)
    start = 0
    for record in records:
        own = passed[start : start + len(record['labels'])]
        start += len(own)
        if record['frame'] not in known:
            continue
        here = frames == record['frame']
        holds = bev_iou(boxes[here], record['boxes']) >= match_iou
        holds &= own[None] & (labels[here][:, None] == record['labels'][None])
        fallen[here] = ~holds.any(1)
    return fallen
