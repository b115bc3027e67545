"""Padding is invisible: what goes in as lists comes out as the same lists."""

import pytest
import torch

from mmdistill.det3d.box_batch import BoxBatch, PointBatch


def ragged(counts=(3, 0, 5), seed=0):
    """Lists of boxes, labels and weights with the given lengths."""
    generator = torch.Generator().manual_seed(seed)
    boxes = [torch.rand(count, 7, generator=generator) for count in counts]
    labels = [torch.randint(3, (count,), generator=generator) for count in counts]
    weights = [torch.rand(count, generator=generator) for count in counts]
    return boxes, labels, weights


def assert_lists(batch, *expected):
    """``batch.lists()`` equals lists of boxes, labels, weights."""
    assert len(batch.lists()) == len(expected[0])
    for row, found in enumerate(batch.lists()):
        for part, value in zip(found, expected, strict=True):
            assert torch.equal(part, value[row])


@pytest.mark.parametrize('counts', [(3, 0, 5), (0, 0), (4,), (0,)])
def test_lists_round_trip(counts):
    parts = ragged(counts)
    batch = BoxBatch.from_lists(*parts)
    assert len(batch) == len(counts)
    assert batch.valid.sum(1).tolist() == list(counts)
    assert bool((batch.labels[~batch.valid] == -1).all())
    assert bool((batch.weights[~batch.valid] == 0).all())
    assert_lists(batch, *parts)


def test_weights_default_to_one_and_velocities_are_carried():
    boxes, labels, _ = ragged()
    boxes = [torch.cat([b, b[:, :2]], 1) for b in boxes]
    batch = BoxBatch.from_lists(boxes, labels)
    assert batch.boxes.shape[-1] == 9
    assert_lists(batch, boxes, labels, [torch.ones(len(b)) for b in boxes])


def test_default_weights_are_numbers_whatever_the_labels_type():
    boxes, labels, _ = ragged()
    assert BoxBatch.from_lists(boxes, labels).weights.dtype == torch.float32
    assert BoxBatch.from_lists(boxes, [each.int() for each in labels]).labels.dtype == torch.long


def test_keep_drops_boxes_with_label_and_weight():
    boxes, labels, weights = ragged()
    batch = BoxBatch.from_lists(boxes, labels, weights)
    mask = torch.arange(5)[None] % 2 == 0
    kept = batch.keep(mask.expand(3, -1))
    assert_lists(kept, *([each[::2] for each in part] for part in (boxes, labels, weights)))
    assert bool((kept.labels[~kept.valid] == -1).all() & (kept.weights[~kept.valid] == 0).all())
    # a dropped box never comes back
    assert not kept.keep(torch.ones(3, 5, dtype=torch.bool)).valid[:, 1].any()
    assert_lists(batch, boxes, labels, weights)


def test_other_boxes_and_weights():
    batch = BoxBatch.from_lists(*ragged())
    doubled = batch.with_boxes(batch.boxes * 2)
    assert torch.equal(doubled.lists()[2][0], batch.lists()[2][0] * 2)
    assert torch.equal(doubled.labels, batch.labels)
    ones = batch.with_weights(torch.ones(3, 5))
    assert ones.weights.sum(1).tolist() == [3, 0, 5]


def test_sum_joins_sample_by_sample():
    first, second = ragged(), ragged((1, 2, 0), seed=1)
    both = BoxBatch.from_lists(*first) + BoxBatch.from_lists(*second)
    for row, parts in enumerate(both.lists()):
        for part, mine, theirs in zip(parts, first, second, strict=True):
            assert torch.equal(part, torch.cat([mine[row], theirs[row]]))
    empty = BoxBatch.empty(3, first[0][0])
    assert_lists(BoxBatch.from_lists(*first) + empty, *first)
    assert_lists(empty + BoxBatch.from_lists(*first), *first)


def test_select_and_scatter_are_opposites():
    parts = ragged((2, 1, 0, 3))
    batch = BoxBatch.from_lists(*parts)
    rows = torch.tensor([3, 1])
    chosen = batch.select(rows)
    assert_lists(chosen, *([part[3], part[1]] for part in parts))
    back = chosen.scatter(rows, 4)
    expected = [[part[i] if i in (1, 3) else part[i][:0] for i in range(4)] for part in parts]
    assert_lists(back, *expected)
    assert bool((back.labels[~back.valid] == -1).all())
    assert_lists(
        batch.select(torch.tensor([False, True, False, True])), *([p[1], p[3]] for p in parts)
    )


def test_scatter_of_nothing():
    none = BoxBatch.from_lists(*ragged((2, 1))).select(torch.zeros(0, dtype=torch.long))
    assert none.scatter(torch.zeros(0, dtype=torch.long), 3).valid.sum() == 0


# ------------------------------------------------------------------ points


def clouds(counts=(4, 0, 6)):
    """Clouds of the given sizes; the first feature is a running number."""
    parts = [torch.rand(count, 4) for count in counts]
    for part, start in zip(parts, torch.tensor([0, *counts]).cumsum(0).tolist(), strict=False):
        part[:, 3] = start + torch.arange(len(part))
    return parts


def test_points_round_trip():
    parts = clouds()
    batch = PointBatch.from_list(parts)
    assert batch.batch == 3 and batch.sample.tolist() == [0] * 4 + [2] * 6
    assert all(torch.equal(a, b) for a, b in zip(batch.lists(), parts, strict=True))
    trailing = PointBatch.from_list(clouds((2, 0, 0)))
    assert [len(each) for each in trailing.lists()] == [2, 0, 0]


def test_points_keep_select_and_add():
    parts = clouds()
    batch = PointBatch.from_list(parts)
    kept = batch.keep(batch.points[:, 3] % 2 == 0)
    assert [each[:, 3].tolist() for each in kept.lists()] == [[0, 2], [], [4, 6, 8]]
    chosen = batch.select(torch.tensor([2, 1]))
    assert chosen.batch == 2 and chosen.sample.tolist() == [0] * 6
    other = PointBatch.from_list(clouds((1, 2, 0)))
    both = (batch + other).lists()
    assert all(
        torch.equal(each, torch.cat([first, second]))
        for each, first, second in zip(both, parts, other.lists(), strict=True)
    )
