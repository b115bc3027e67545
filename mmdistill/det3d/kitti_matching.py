"""Greedy matching of detections with ground truth as in KITTI's development kit, compiled.

States of boxes for one class and difficulty: 0 counts, 1 is tolerated (neither hit nor error), -1
is not looked at. Frames are concatenated: frame f owns the ground truth
``gt_start[f]:gt_start[f + 1]``, the detections ``dt_start[f]:dt_start[f + 1]`` and the overlaps
``pair_start[f]:pair_start[f + 1]``, one row per detection.

The loops follow the published protocol (http://www.cvlibs.net/datasets/kitti/eval_object.php), on
which mmdet3d's evaluation agrees: the first pass, which only collects scores, takes the best
*score* per object; the second one, which counts at a score threshold, takes the best *overlap* and
prefers detections that count to tolerated ones.
"""

import numpy as np

from mmdistill.det3d.compiled import compiled

NUM_RECALL_POINTS = 41


@compiled
def _candidates(row_start, num_gt, gt_first, dt_first, dt_last, overlaps, states, min_overlap):
    """Lists, object by object, the detections of one frame that overlap it enough.

    Returns their indices, and where each object's part of them starts.
    """
    gt_state, dt_state = states
    found = np.empty((dt_last - dt_first) * num_gt, np.int64)
    start = np.zeros(num_gt + 1, np.int64)
    count = 0
    for i in range(num_gt):
        if gt_state[gt_first + i] >= 0:
            for j in range(dt_first, dt_last):
                overlap = overlaps[row_start + (j - dt_first) * num_gt + i]
                if dt_state[j] >= 0 and overlap > min_overlap:
                    found[count] = j
                    count += 1
        start[i + 1] = count
    return found[:count], start


@compiled
def matched_scores(frames, overlaps, gt_state, dt_state, scores, min_overlap):
    """Collects the scores at which objects are found, taking the best score per object.

    Args:
        frames: ``(gt_start, dt_start, pair_start)``, each ``(F + 1,)`` int64.
        overlaps: ``(pairs,)`` float64 overlaps of all pairs of the frames.
        gt_state: ``(G,)`` int64 states of the objects.
        dt_state: ``(D,)`` int64 states of the detections.
        scores: ``(D,)`` float64 scores.
        min_overlap: Overlap that a match must exceed.

    Returns:
        Scores of the true positives, unsorted.
    """
    gt_start, dt_start, pair_start = frames
    taken = np.zeros(len(scores), np.bool_)
    hits = np.empty(len(gt_state))
    count = 0
    for f in range(len(gt_start) - 1):
        first, num_gt = gt_start[f], gt_start[f + 1] - gt_start[f]
        found, start = _candidates(
            pair_start[f],
            num_gt,
            first,
            dt_start[f],
            dt_start[f + 1],
            overlaps,
            (gt_state, dt_state),
            min_overlap,
        )
        for i in range(num_gt):
            best = -1
            for j in found[start[i] : start[i + 1]]:
                if not taken[j] and (best < 0 or scores[j] > scores[best]):
                    best = j
            if best >= 0:
                taken[best] = True
                if gt_state[first + i] == 0 and dt_state[best] == 0:
                    hits[count] = scores[best]
                    count += 1
    return hits[:count]


@compiled
def count_at_thresholds(
    frames,
    overlaps,
    gt_state,
    dt_state,
    scores,
    min_overlap,
    thresholds,
    covered,
    gt_alpha,
    dt_alpha,
):
    """Counts hits and errors at each score threshold, taking the best overlap per object.

    Args:
        frames: ``(gt_start, dt_start, pair_start)``, each ``(F + 1,)`` int64.
        overlaps: ``(pairs,)`` float64 overlaps of all pairs of the frames.
        gt_state: ``(G,)`` int64 states of the objects.
        dt_state: ``(D,)`` int64 states of the detections.
        scores: ``(D,)`` float64 scores.
        min_overlap: Overlap that a match must exceed.
        thresholds: ``(T,)`` float64; detections below are absent.
        covered: ``(D,)`` bool, detections that are no false positives where unmatched (they lie in
            a DontCare region).
        gt_alpha: ``(G,)`` observation angles in radians.
        dt_alpha: ``(D,)`` observation angles in radians.

    Returns:
        ``(T, 3)`` float64: true positives, false positives, orientation similarity, the last one
        being the sum of ``(1 + cos(angle error)) / 2`` over the true positives.
    """
    gt_start, dt_start, pair_start = frames
    counts = np.zeros((len(thresholds), 3))
    taken_at = np.full(len(scores), -1, np.int64)
    for f in range(len(gt_start) - 1):
        first, num_gt = gt_start[f], gt_start[f + 1] - gt_start[f]
        found, start = _candidates(
            pair_start[f],
            num_gt,
            first,
            dt_start[f],
            dt_start[f + 1],
            overlaps,
            (gt_state, dt_state),
            min_overlap,
        )
        for t in range(len(thresholds)):
            for i in range(num_gt):
                best, best_overlap = -1, 0.0
                for j in found[start[i] : start[i + 1]]:
                    if taken_at[j] == t or scores[j] < thresholds[t]:
                        continue
                    overlap = overlaps[pair_start[f] + (j - dt_start[f]) * num_gt + i]
                    if dt_state[j] == 0:
                        if best < 0 or dt_state[best] == 1 or overlap > best_overlap:
                            best, best_overlap = j, overlap
                    elif best < 0:
                        best = j
                if best >= 0:
                    taken_at[best] = t
                    if gt_state[first + i] == 0 and dt_state[best] == 0:
                        counts[t, 0] += 1
                        counts[t, 2] += (1 + np.cos(gt_alpha[first + i] - dt_alpha[best])) / 2
            for j in range(dt_start[f], dt_start[f + 1]):
                free = dt_state[j] == 0 and taken_at[j] != t and scores[j] >= thresholds[t]
                if free and not covered[j]:
                    counts[t, 1] += 1
    return counts


def score_thresholds(scores: np.ndarray, num_gt: int) -> np.ndarray:
    """Picks the scores at which the recall is nearest to 0, 1/40, 2/40, ... 1.

    Args:
        scores: ``(N,)`` scores of the true positives.
        num_gt: Number of objects that count.

    Returns:
        At most 41 scores, descending.
    """
    kept: list[float] = []
    target = 0.0
    descending = np.sort(scores)[::-1]
    for i, score in enumerate(descending):
        last = i == len(descending) - 1
        recall, next_recall = (i + 1) / num_gt, (i + 2) / num_gt
        if not last and next_recall - target < target - recall:
            continue
        kept.append(score)
        target += 1 / (NUM_RECALL_POINTS - 1)
    return np.array(kept[:NUM_RECALL_POINTS])
