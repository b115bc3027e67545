"""What a mining round makes of records, by hand and against loops over boxes."""

import pytest
import torch

from mmdistill.det3d.round_records import (
    by_frame,
    every_box,
    fallen_boxes,
    joined,
    mined_boxes,
    score_pools,
)


def record(frame, count, labeled=False, seed=0):
    """A record with ``count`` boxes on a line and two pairs."""
    generator = torch.Generator().manual_seed(100 * seed + frame)
    boxes = torch.zeros(count, 7)
    boxes[:, 0] = torch.arange(count) * 10.0
    boxes[:, 3:6] = torch.tensor([4.0, 2.0, 1.5])
    return dict(
        frame=frame,
        labeled=labeled,
        boxes=boxes,
        labels=torch.randint(3, (count,), generator=generator),
        scores=torch.rand(count, 2, generator=generator),
        trusted=torch.rand(count, generator=generator).round(decimals=1) * (count > 1),
        points=torch.randint(12, (count,), generator=generator).float(),
        pair_iou=torch.rand(2, generator=generator),
        pair_label=torch.randint(3, (2,), generator=generator),
    )


RECORDS = [record(3, 4), record(7, 0), record(8, 6, labeled=True), record(9, 5)]


def test_a_frame_counts_once_and_in_order():
    later = record(3, 2, seed=1)
    found = by_frame([*RECORDS[::-1], later])
    assert [each['frame'] for each in found] == [3, 7, 8, 9] and found[0] is later


def test_rows_of_all_boxes():
    assert every_box(RECORDS, 'frame').tolist() == [3] * 4 + [8] * 6 + [9] * 5
    assert every_box(RECORDS, 'labeled').tolist() == [False] * 4 + [True] * 6 + [False] * 5
    assert every_box(RECORDS, 'boxes').shape == (15, 7)
    assert every_box(RECORDS, 'pair_iou').shape == (8,)


def test_pools_against_a_loop():
    pools = score_pools(RECORDS, ('cls', 'view_iou'), 3, match_iou=0.4)
    for label in range(3):
        cls = [
            float(score[0])
            for each in RECORDS
            for score, own, trusted in zip(
                each['scores'], each['labels'], each['trusted'], strict=True
            )
            if own == label and trusted >= 0.4
        ]
        pairs = [
            float(iou)
            for each in RECORDS
            for iou, own in zip(each['pair_iou'], each['pair_label'], strict=True)
            if own == label
        ]
        assert pools['cls', label].tolist() == pytest.approx(cls)
        assert pools['view_iou', label].tolist() == pytest.approx(pairs)


def test_mined_boxes_against_a_loop():
    high = torch.arange(15) % 3 != 0
    found, row, expected = mined_boxes(RECORDS, high, 4, 1), 0, []
    for each in RECORDS:
        for box in range(len(each['labels'])):
            fine = high[row] and not each['labeled'] and each['points'][box] >= 4
            if fine and each['trusted'][box] == 0:
                expected.append((each['frame'], float(each['boxes'][box, 0])))
            row += 1
    frames, places = found['frames'].tolist(), found['boxes'][:, 0].tolist()
    assert list(zip(frames, places, strict=True)) == expected
    loose = [dict(each, trusted=0 * each['trusted']) for each in RECORDS]
    every = mined_boxes(loose, torch.ones(15, dtype=torch.bool), 0, 1)
    assert every['frames'].tolist() == [3] * 4 + [9] * 5
    assert torch.equal(
        every['scores'], torch.cat([RECORDS[0]['scores'], RECORDS[3]['scores']])[:, 1]
    )


def test_boxes_fall_without_a_prediction_of_their_class_on_them():
    """On them means an overlap from the match on; boxes of frames that were not read stay."""
    one = record(3, 4)
    boxes = torch.cat([one['boxes'], one['boxes'][:2]])
    boxes[1, 0] += 1.0  # overlap of 3/5
    boxes[2, 0] += 3.0  # overlap of 1/7
    labels = torch.cat([one['labels'], one['labels'][:2]])
    labels[3] = (labels[3] + 1) % 3
    frames = torch.tensor([3, 3, 3, 3, 5, 5])
    stored = dict(boxes=boxes, labels=labels, frames=frames)
    passed = torch.ones(4, dtype=torch.bool)
    fallen = fallen_boxes(stored, [one], passed, 0.5)
    assert fallen.tolist() == [False, False, True, True, False, False]
    assert fallen_boxes(stored, [one], passed, 0.61)[1]
    assert fallen_boxes(stored, [one], ~passed, 0.5).tolist() == [True] * 4 + [False] * 2
    # a frame without predictions loses all of its boxes
    assert (
        fallen_boxes(stored, [record(5, 0)], passed[:0], 0.5).tolist() == [False] * 4 + [True] * 2
    )


def test_pools_of_views_are_joined():
    parts = [(torch.tensor([0.1, 0.2]), torch.tensor([1, 2])), (torch.zeros(0), torch.zeros(0))]
    overlaps, classes = joined(parts)
    assert overlaps.tolist() == pytest.approx([0.1, 0.2]) and classes.tolist() == [1, 2]
