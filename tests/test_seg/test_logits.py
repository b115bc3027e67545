"""Logits have the size of the padded input, whatever the samples say."""

import pytest
import torch
import torch.nn.functional as F
from head_cases import CE, build, head_config, segmentor_of
from pixel_cases import uniform
from torch import nn

from mmdistill.core.errors import UserError
from mmdistill.seg.logits import decode_logits, resize_logits


@pytest.fixture
def segmentor():
    return segmentor_of(loss_decode=CE)


@pytest.mark.parametrize('align_corners', [True, False])
def test_logits_are_those_of_the_head_resized(align_corners):
    segmentor = segmentor_of(loss_decode=CE, align_corners=align_corners)
    inputs = uniform(2, 3, 24, 40)
    small = segmentor.decode_head.forward(segmentor.extract_feat(inputs))
    expected = F.interpolate(small, (24, 40), mode='bilinear', align_corners=align_corners)
    assert torch.equal(decode_logits(segmentor, inputs), expected)
    assert small.shape[-2:] == (6, 10) and expected.shape == (2, 5, 24, 40)


def test_padded_batches_of_different_sizes(segmentor):
    """Fact 37: mmseg resizes to the first sample's size before the padding, we do not."""
    inputs = uniform(2, 3, 64, 64)
    metas = [dict(img_shape=torch.Size((48, 64))), dict(img_shape=torch.Size((64, 64)))]
    assert segmentor.encode_decode(inputs, metas).shape[-2:] == (48, 64)
    assert decode_logits(segmentor, inputs).shape[-2:] == (64, 64)
    metas.reverse()
    assert torch.equal(decode_logits(segmentor, inputs), segmentor.encode_decode(inputs, metas))


def test_given_features_are_used(segmentor, monkeypatch):
    inputs = uniform(1, 3, 16, 16)
    expected, features = decode_logits(segmentor, inputs), segmentor.extract_feat(inputs)
    monkeypatch.setattr(segmentor, 'extract_feat', None)
    assert torch.equal(decode_logits(segmentor, inputs, features), expected)


def test_mode_and_gradients_are_the_callers(segmentor):
    inputs = uniform(1, 3, 16, 16)
    for training in (True, False):
        segmentor.train(training)
        assert decode_logits(segmentor, inputs).requires_grad
        assert all(module.training == training for module in segmentor.modules())


def test_logits_of_the_right_size_come_back_as_they_are():
    logits = uniform(1, 2, 3, 4)
    assert resize_logits(logits, (3, 4), False) is logits
    assert resize_logits(logits, torch.Size((6, 8)), False).shape == (1, 2, 6, 8)


def test_other_segmentors_are_refused(segmentor):
    inputs = uniform(1, 3, 16, 16)
    segmentor.decode_head.forward = lambda features: [features[0]]
    with pytest.raises(UserError, match='FCNHead'):
        decode_logits(segmentor, inputs)
    segmentor.decode_head = nn.ModuleList([build(head_config(loss_decode=CE))] * 2)
    with pytest.raises(UserError, match='2 decode heads'):
        decode_logits(segmentor, inputs)
