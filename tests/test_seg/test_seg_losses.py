"""Weighted losses are mmseg's own, times the weight."""

import pytest
import torch
import torch.nn.functional as F
from head_cases import CE, build, head_config, samples_of, segmentor_of
from mmseg.structures.sampler import OHEMPixelSampler
from no_wait import NoWait
from pixel_cases import labels_of, logits_of, uniform

from mmdistill.core.errors import UserError
from mmdistill.seg.seg_losses import (
    heads_of,
    losses_of_heads,
    pixel_cross_entropy,
    weighted_decode_losses,
)

LOSSES = {
    'one': CE,
    'list of one': [CE],
    'two names': [CE, dict(type='CrossEntropyLoss', loss_weight=0.3, loss_name='loss_more')],
    'one name twice': [CE, dict(type='CrossEntropyLoss', loss_weight=0.3)],
    'class weights': dict(type='CrossEntropyLoss', class_weight=[1.0, 2.0, 0.5, 1.0, 3.0]),
    'dice': [CE, dict(type='DiceLoss')],
}
OHEM = dict(type='OHEMPixelSampler', thresh=0.7, min_kept=20)
TOP = dict(type='OHEMPixelSampler', min_kept=20)
# mmseg's Dice loss takes no weight per pixel, so no sampler
COMBINATIONS = [(n, s) for n in LOSSES for s in (None, OHEM, TOP) if n != 'dice' or s is None]


@pytest.fixture
def batch():
    """Logits at a quarter of the labels' size, labels and weights."""
    logits = logits_of(2, 5, 6, 8).requires_grad_()
    return logits, labels_of(2, 24, 32), uniform(2, 24, 32)


@pytest.mark.parametrize(('name', 'sampler'), COMBINATIONS)
@pytest.mark.parametrize('align_corners', [True, False])
def test_without_weights_it_is_mmsegs_loss(batch, name, sampler, align_corners):
    """Fact 23, names, accuracy and gradients included."""
    logits, labels, _ = batch
    if name == 'class weights':
        labels = labels.clamp(max=4)  # mmseg's class weights know no ignored label
    head = build(
        head_config(loss_decode=LOSSES[name], sampler=sampler, align_corners=align_corners)
    )
    expected = head.loss_by_feat(logits, samples_of(labels))
    losses = weighted_decode_losses(head, logits, labels, with_accuracy=True)
    assert set(losses) == set(expected)
    for key, value in expected.items():
        torch.testing.assert_close(losses[key], value, rtol=0, atol=0)
    key = 'loss_ce'
    mine, theirs = (
        torch.autograd.grad(each[key], logits, retain_graph=True)[0] for each in (losses, expected)
    )
    assert torch.equal(mine, theirs)


def test_weighted_cross_entropy_is_the_mean_of_all_pixels(batch):
    """Fact 23: ignored pixels count in the mean."""
    logits, labels, weight = batch
    losses = weighted_decode_losses(build(head_config(loss_decode=CE)), logits, labels, weight)
    assert set(losses) == {'loss_ce'}
    big = F.interpolate(logits, (24, 32), mode='bilinear', align_corners=False)
    own = -big.log_softmax(1).gather(1, labels.clamp(max=4)[:, None])[:, 0]
    own = own * (labels != 255)
    torch.testing.assert_close(losses['loss_ce'], (own * weight).sum() / (2 * 24 * 32))
    with_channel = weighted_decode_losses(
        build(head_config(loss_decode=CE)), logits, labels[:, None], weight
    )
    assert torch.equal(with_channel['loss_ce'], losses['loss_ce'])


def test_weight_scales_and_zero_weight_hides(batch):
    logits, labels, weight = batch
    head = build(head_config(loss_decode=LOSSES['two names']))
    one = weighted_decode_losses(head, logits, labels, weight)
    two = weighted_decode_losses(head, logits, labels, 2 * weight)
    for name in one:
        torch.testing.assert_close(two[name], 2 * one[name])
    hidden = weight * (weight < 0.5)
    other = torch.where(weight < 0.5, labels, labels_of(2, 24, 32, seed=9))
    for name, value in weighted_decode_losses(head, logits, other, hidden).items():
        assert value == weighted_decode_losses(head, logits, labels, hidden)[name]


def test_sampler_and_weight_are_multiplied(batch):
    logits, labels, weight = batch
    plain = build(head_config(loss_decode=CE))
    for config in (OHEM, TOP):
        head = build(head_config(loss_decode=CE, sampler=config))
        big = F.interpolate(logits, (24, 32), mode='bilinear', align_corners=False)
        picked = head.sampler.sample(big, labels[:, None])
        expected = weighted_decode_losses(plain, logits, labels, weight * picked)['loss_ce']
        assert 0 < picked.mean() < 1
        mine = weighted_decode_losses(head, logits, labels, weight)['loss_ce']
        torch.testing.assert_close(mine, expected, rtol=0, atol=0)


def test_mmsegs_ohem_is_replaced_but_not_its_children(batch, monkeypatch):
    """The batched equal answers for mmseg's class; a subclass is asked itself."""
    logits, labels, weight = batch

    class Other(OHEMPixelSampler):
        def sample(self, seg_logit, seg_label):
            return torch.zeros(seg_label.squeeze(1).shape)

    head = build(head_config(loss_decode=CE, sampler=OHEM))
    monkeypatch.setattr(OHEMPixelSampler, 'sample', None)
    assert weighted_decode_losses(head, logits, labels, weight)['loss_ce'] > 0
    head.sampler = Other(head, 0.7, 20)
    assert weighted_decode_losses(head, logits, labels, weight)['loss_ce'] == 0


def test_logits_of_the_labels_size_are_taken_as_they_are(batch):
    _, labels, weight = batch
    logits = logits_of(2, 5, 24, 32)
    losses = weighted_decode_losses(build(head_config(loss_decode=CE)), logits, labels, weight)
    expected = (F.cross_entropy(logits, labels, ignore_index=255, reduction='none') * weight).mean()
    torch.testing.assert_close(losses['loss_ce'], expected)


AUXILIARY = head_config(in_index=0, loss_decode=dict(CE, loss_weight=0.4))


@pytest.mark.parametrize('auxiliary', [None, AUXILIARY, [AUXILIARY, AUXILIARY]])
def test_all_heads_are_named_and_valued_as_in_mmseg(auxiliary):
    segmentor = segmentor_of(auxiliary, loss_decode=CE)
    inputs, labels = uniform(2, 3, 24, 32), labels_of(2, 24, 32)
    expected = segmentor.loss(inputs, samples_of(labels))
    features = segmentor.extract_feat(inputs)
    logits = {name: head(features) for name, head in heads_of(segmentor).items()}
    losses = losses_of_heads(segmentor, logits, labels, with_accuracy=True)
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=0, atol=0)


def test_auxiliary_heads_are_weighted_where_asked():
    """Without: the published code's single auxiliary head."""
    segmentor = segmentor_of(AUXILIARY, loss_decode=CE)
    inputs, labels = uniform(2, 3, 24, 32), labels_of(2, 24, 32)
    features, weight = segmentor.extract_feat(inputs), torch.full((2, 24, 32), 0.5)
    logits = {name: head(features) for name, head in heads_of(segmentor).items()}
    whole = losses_of_heads(segmentor, logits, labels)
    both = losses_of_heads(segmentor, logits, labels, weight)
    main = losses_of_heads(segmentor, logits, labels, weight, weight_auxiliary=False)
    for name, factor in (('decode.loss_ce', 0.5), ('aux.loss_ce', 0.5)):
        torch.testing.assert_close(both[name], factor * whole[name])
    assert main['aux.loss_ce'] == whole['aux.loss_ce']
    assert main['decode.loss_ce'] == both['decode.loss_ce']


def test_heads_without_the_loop_and_wrong_shapes_are_refused(batch):
    logits, labels, weight = batch
    head = build(head_config(loss_decode=CE))
    with pytest.raises(ValueError, match=r'\(2, 24, 31\)'):
        weighted_decode_losses(head, logits, labels, weight[..., 1:])

    class Own(type(head)):
        def loss_by_feat(self, seg_logits, batch_data_samples):
            return {}

    head.__class__ = Own
    with pytest.raises(UserError, match='Own has a loss of its own'):
        weighted_decode_losses(head, logits, labels, weight)


def test_no_step_waits_for_the_device(batch):
    """With the mining head too; the accuracy alone does."""
    logits, labels, weight = batch
    head = build(head_config(loss_decode=CE, sampler=OHEM))
    with NoWait():
        weighted_decode_losses(head, logits, labels, weight)['loss_ce'].backward()
    assert logits.grad.any()
    with NoWait(), pytest.raises(AssertionError):
        weighted_decode_losses(head, logits, labels, weight, with_accuracy=True)


def test_plain_cross_entropy_is_that_of_a_head_without_a_sampler(batch):
    logits, labels, weight = batch
    plain, mining = (build(head_config(loss_decode=CE, **more)) for more in ({}, {'sampler': OHEM}))
    expected = weighted_decode_losses(plain, logits, labels, weight)['loss_ce']
    torch.testing.assert_close(pixel_cross_entropy(mining, logits, labels, weight), expected)
    every = pixel_cross_entropy(mining, logits, labels)
    torch.testing.assert_close(every, weighted_decode_losses(plain, logits, labels)['loss_ce'])
    assert weighted_decode_losses(mining, logits, labels, weight)['loss_ce'] != expected
