"""Looks at images: the host's own forward pass, alone and for two batches at once."""

import pytest
import torch
from head_cases import CE, head_config, samples_of, segmentor_of

from mmdistill.seg.seg_batch import annotations_of, look, look_at_both

AUXILIARY = head_config(in_index=0, loss_decode=dict(CE, loss_weight=0.4))


@pytest.fixture
def segmentor():
    """With an auxiliary head."""
    return segmentor_of(AUXILIARY, loss_decode=CE)


def images(count: int, seed: int) -> torch.Tensor:
    """Normalised images."""
    return torch.randn(count, 3, 24, 32, generator=torch.Generator().manual_seed(seed))


def test_a_look_is_the_hosts_forward_pass_of_every_head(segmentor):
    inputs = images(2, 0)
    features = segmentor.extract_feat(inputs)
    seen = look(segmentor, inputs)
    assert set(seen.logits) == {'decode', 'aux'}
    assert torch.equal(seen.logits['decode'], segmentor.decode_head(features))
    assert torch.equal(seen.logits['aux'], segmentor.auxiliary_head(features))
    assert all(torch.equal(a, b) for a, b in zip(seen.features, features, strict=True))


def test_features_are_the_backbones_and_heads_see_the_neck(segmentor):
    segmentor.neck = torch.nn.Module()
    segmentor.neck.forward = lambda levels: [each * 0 for each in levels]
    seen = look(segmentor, images(1, 0))
    assert all(each.any() for each in seen.features)
    bare = segmentor.decode_head([torch.zeros_like(each) for each in seen.features])
    assert torch.equal(seen.logits['decode'], bare)


def test_two_batches_at_once_are_each_by_itself(segmentor):
    first, second = images(1, 1), images(3, 2)
    both = look_at_both(segmentor, first, second)
    for seen, inputs in zip(both, (first, second), strict=True):
        assert seen.features is None
        for name, logits in look(segmentor, inputs).logits.items():
            torch.testing.assert_close(seen.logits[name], logits, rtol=1e-5, atol=1e-6)


def test_annotations_are_stacked_or_all_missing():
    labels = torch.randint(0, 5, (2, 4, 6))
    samples = samples_of(labels)
    found = annotations_of(samples)
    assert torch.equal(found, labels) and found.dtype == torch.long
    del samples[1].gt_sem_seg
    assert annotations_of(samples) is None
    assert annotations_of(()) is None
