"""Batched OHEM keeps the pixels of mmseg's sampler and of a plain sort."""

from types import SimpleNamespace

import pytest
import torch
from mmseg.structures.sampler import OHEMPixelSampler
from no_wait import NoWait
from pixel_cases import labels_of, logits_of, ohem_by_sort

from mmdistill.seg.ohem import ohem_weights

CASES = [(0.7, 2), (0.7, 60), (0.7, 10**6), (0.0, 30), (1.0, 5), (0.3, 110)]


@pytest.mark.parametrize(('thresh', 'min_kept'), CASES)
@pytest.mark.parametrize('ignored', [0.0, 0.4, 1.0])
def test_weights_are_those_of_mmseg_and_of_a_sort(thresh, min_kept, ignored):
    context = SimpleNamespace(ignore_index=255)
    for seed in range(3):
        logits = logits_of(2, 5, 12, 10, seed=seed)
        labels = labels_of(2, 12, 10, ignored=ignored, seed=seed)
        weight = ohem_weights(logits, labels, thresh, min_kept)
        sampler = OHEMPixelSampler(context, thresh, min_kept)
        assert torch.equal(weight, sampler.sample(logits, labels[:, None]))
        assert torch.equal(weight, ohem_by_sort(logits, labels, thresh, min_kept))


def test_golden_pixels():
    """Probabilities 0.9, 0.8, 0.6, 0.2 of the own class: below 0.7 the last two; two more kept
    than that takes the threshold to 0.9, which itself stays out."""
    prob = torch.tensor([0.9, 0.8, 0.6, 0.2])
    logits = torch.stack([prob, 1 - prob]).log().view(1, 2, 1, 4)
    labels = torch.zeros(1, 1, 4, dtype=torch.long)
    assert ohem_weights(logits, labels, 0.7, 2).flatten().tolist() == [0, 0, 1, 1]
    assert ohem_weights(logits, labels, 0.7, 3).flatten().tolist() == [0, 1, 1, 1]
    labels[0, 0, 3] = 255
    assert ohem_weights(logits, labels, 0.7, 1).flatten().tolist() == [0, 0, 1, 0]


def test_at_least_min_kept_pixels_stay():
    logits, labels = logits_of(3, 4, 9, 9, spread=9.0), labels_of(3, 9, 9, classes=4)
    for min_kept in (2, 20, 50):
        kept = ohem_weights(logits, labels, 0.1, min_kept).sum()
        assert kept >= min(3 * min_kept, int((labels != 255).sum()) - 1)


def test_no_step_waits_for_the_device_but_mmsegs_do():
    logits, labels = logits_of(2, 5, 8, 8).requires_grad_(), labels_of(2, 8, 8)
    with NoWait():
        weight = ohem_weights(logits, labels)
    assert weight.any() and not weight.requires_grad
    with NoWait(), pytest.raises(AssertionError, match='boolean indexing'):
        OHEMPixelSampler(SimpleNamespace(ignore_index=255), 0.7).sample(logits, labels[:, None])
