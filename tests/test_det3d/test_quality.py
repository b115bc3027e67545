"""Counts of pseudo labels against hidden truth, on scenes counted by hand."""

import pytest
import torch
from det3d_scenes import boxes_of, sample

from mmdistill.det3d.box_batch import BoxBatch
from mmdistill.det3d.quality import hidden_stats, per_class


def hidden_of(rows):
    """Hidden truth as the dataset packs it: two numpy arrays."""
    boxes, labels = boxes_of(rows)
    return boxes.numpy(), labels.numpy()


def batch(*scenes):
    """A box batch of lists of rows."""
    boxes, labels = zip(*(boxes_of(rows) for rows in scenes), strict=True)
    return BoxBatch.from_lists(list(boxes), list(labels))


def stats(found, kept, hidden):
    """Stats of batches with the given hidden truths."""
    samples = [sample(row, labeled=False, hidden=each) for row, each in enumerate(hidden)]
    scores = found.weights[..., None]
    return hidden_stats(found, kept, scores, samples, 3)


def test_per_class_counts():
    labels = torch.tensor([[0, 2, 2], [1, -1, 2]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    assert per_class(labels, mask, 3).tolist() == [1, 1, 2]
    assert per_class(labels[:, :0], mask[:, :0], 3).tolist() == [0, 0, 0]


def test_right_wrong_and_missed():
    """Kept: a right car, a car that is a cyclist, a pedestrian too far off; missed: one car."""
    first = [(10, 0, 2, 0.0), (20, 4, 2, 0.0), (15, -8, 0, 0.0)]
    second = [(8, 8, 2, 0.0)]
    truth = [(10.5, 0, 2, 0.0), (20, 4, 1, 0.0), (15.8, -8, 0, 0.0)]
    found = batch(first, second)
    kept = found.keep(torch.tensor([[True, True, True], [False, False, False]]))
    done = stats(found, kept, [hidden_of(truth), hidden_of(second)])
    assert done.total.tolist() == [1, 0, 3]
    assert done.kept.tolist() == [1, 0, 2]
    assert done.true_positive.tolist() == [0, 0, 1]
    assert done.hidden.tolist() == [1, 1, 2]
    assert len(done.scores) == 4


def test_no_precision_without_hidden_truth():
    found = batch([(10, 0, 2)], [(5, 0, 0)])
    done = stats(found, found, [hidden_of([(10, 0, 2)]), None])
    assert done.true_positive is None and done.hidden is None
    assert done.kept.tolist() == [1, 0, 1]


@pytest.mark.parametrize('rows', [[], [(10, 0, 2)]])
def test_scenes_without_truth_or_without_labels(rows):
    found = batch(rows)
    done = stats(found, found, [hidden_of([])])
    assert done.true_positive.sum() == 0 and done.hidden.sum() == 0
    assert int(done.kept.sum()) == len(rows)


def test_an_object_is_found_once():
    """Two labels on one object: one is right, so recall never exceeds 1."""
    found = batch([(10, 0, 2, 0.0), (10.3, 0, 2, 0.0), (20, 0, 2, 0.0)])
    done = stats(found, found, [hidden_of([(10.1, 0, 2, 0.0), (20, 0, 2, 0.0)])])
    assert done.kept.tolist() == [0, 0, 3]
    assert done.true_positive.tolist() == [0, 0, 2]


def test_one_label_between_two_objects_is_right_once():
    found = batch([(10, 0, 2, 0.0)])
    done = stats(found, found, [hidden_of([(10.3, 0, 2, 0.0), (9.8, 0, 2, 0.0)])])
    assert done.true_positive.tolist() == [0, 0, 1]
