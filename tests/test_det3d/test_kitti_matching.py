"""The greedy matching on hand-made overlaps."""

import numpy as np
import pytest

from mmdistill.det3d.kitti_matching import count_at_thresholds, matched_scores, score_thresholds


def count(overlaps, scores, gt_state, dt_state, threshold=0.0, covered=None):
    """Scores of hits, then true and false positives, of one frame with overlaps (D, G)."""
    overlaps, scores = np.array(overlaps, float), np.array(scores, float)
    num_dt, num_gt = overlaps.shape
    frames = tuple(np.array([0, n]) for n in (num_gt, num_dt, num_dt * num_gt))
    args = (frames, overlaps.ravel(), np.array(gt_state), np.array(dt_state), scores, 0.5)
    covered = np.zeros(num_dt, bool) if covered is None else np.array(covered)
    angles = np.zeros(num_gt), np.zeros(num_dt)
    counts = count_at_thresholds(*args, np.array([threshold]), covered, *angles)
    return matched_scores(*args).tolist(), counts[0, :2].astype(int).tolist()


def test_scores_decide_the_first_pass_and_overlaps_the_second():
    """Two detections fit both objects; by score or by overlap, each takes one."""
    overlaps = [[0.6, 0.9], [0.9, 0.7]]
    assert count(overlaps, [0.9, 0.8], [0, 0], [0, 0]) == ([0.9, 0.8], [2, 0])
    # The best score takes the only object it fits, the other one has none left.
    assert count([[0.6], [0.9]], [0.9, 0.8], [0], [0, 0]) == ([0.9], [1, 1])


def test_limits_are_exclusive_and_thresholds_inclusive():
    assert count([[0.5]], [0.9], [0], [0]) == ([], [0, 1])
    assert count([[0.6]], [0.9], [0], [0], threshold=0.9) == ([0.9], [1, 0])
    assert count([[0.6]], [0.9], [0], [0], threshold=0.91) == ([0.9], [0, 0])


def test_tolerated_objects_and_detections_are_no_hits_and_no_errors():
    assert count([[0.6]], [0.9], [1], [0]) == ([], [0, 0])
    assert count([[0.6]], [0.9], [0], [1]) == ([], [0, 0])
    assert count([[0.6]], [0.9], [-1], [0]) == ([], [0, 1])
    assert count([[0.6]], [0.9], [0], [-1]) == ([], [0, 0])


def test_detections_that_count_come_before_tolerated_ones():
    """In the second pass only: the first one takes the tolerated one's better score."""
    for overlaps in ([[0.9], [0.6]], [[0.6], [0.9]]):
        assert count(overlaps, [0.9, 0.8], [0], [1, 0]) == ([], [1, 0])
        assert count(overlaps[::-1], [0.8, 0.9], [0], [0, 1]) == ([], [1, 0])


def test_covered_detections_are_forgiven_unless_they_hit():
    assert count([[0.1], [0.6]], [0.9, 0.8], [0], [0, 0], covered=[True, True]) == ([0.8], [1, 0])


@pytest.mark.parametrize('num_gt, kept', [(80, 41), (41, 41), (40, 40), (5, 5), (1000, 41)])
def test_each_recall_point_takes_one_threshold(num_gt, kept):
    scores = np.random.default_rng(0).permutation(num_gt) / num_gt
    thresholds = score_thresholds(scores, num_gt)
    assert len(thresholds) == kept
    assert (np.diff(thresholds) < 0).all()
    assert thresholds[0] == scores.max()
    if num_gt >= 80:
        recalls = np.array([(scores >= t).mean() for t in thresholds])
        np.testing.assert_allclose(recalls, np.arange(41) / 40, atol=1 / num_gt)


def test_no_hits_no_thresholds():
    assert len(score_thresholds(np.zeros(0), 7)) == 0
