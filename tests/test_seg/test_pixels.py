"""Pseudo labels count as published: one share per batch, or those below a percentile."""

import math

import numpy as np
import pytest
import torch
from no_wait import NoWait
from pixel_cases import labels_of, logits_of, uniform

from mmdistill.core.errors import UserError
from mmdistill.seg.pixels import (
    batch_share,
    entropy,
    entropy_keep,
    image_share,
    pixel_weights,
    pseudo_labels,
    unsup_scale,
)


def test_labels_and_probabilities_by_hand():
    """Logits ln 3, 0, 0 have the probabilities 3/5, 1/5, 1/5."""
    logits = torch.tensor([math.log(3), 0.0, 0.0]).view(1, 3, 1, 1)
    label, prob = pseudo_labels(logits.roll(1, 1).expand(2, 3, 4, 5))
    assert label.shape == prob.shape == (2, 4, 5) and label.dtype == torch.long
    assert (label == 1).all()
    torch.testing.assert_close(prob, torch.full((2, 4, 5), 0.6))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_labels_are_of_the_largest_logit_in_any_precision(dtype):
    logits = logits_of(2, 6, 8, 9).to(dtype).requires_grad_()
    label, prob = pseudo_labels(logits)
    exact = logits.detach().double().softmax(1).max(1)
    assert torch.equal(label, exact.indices) and not prob.requires_grad
    assert prob.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(prob.double(), exact.values, atol=1e-6, rtol=0)
    assert entropy(logits).dtype == prob.dtype


def test_a_binary_head_with_one_channel_is_refused():
    with pytest.raises(UserError, match='out_channels'):
        pseudo_labels(torch.zeros(1, 1, 2, 2))


def test_share_of_confident_pixels():
    """Fact 20: the share of the batch; threshold 0 gives 1, above 1 gives 0."""
    prob = torch.tensor([[[0.968, 0.99], [0.5, 0.2]], [[0.1, 0.2], [0.3, 0.967]]])
    assert batch_share(prob, 0.968) == 2 / 8 and batch_share(prob, 0.968).dim() == 0
    assert image_share(prob, 0.968).tolist() == [0.5, 0.0]
    assert batch_share(prob, 0.0) == 1 and batch_share(prob, 1.01) == 0


@pytest.mark.parametrize('rows', [(0, 0), (2, 0), (0, 3), (2, 3), (9, 1), (0, 12)])
def test_weights_are_the_share_but_on_ignored_rows(rows):
    """Fact 20: ignored rows still count in the share; bottom 0 ignores none."""
    prob = uniform(3, 8, 5)
    weight = pixel_weights(prob, 0.6, *rows)
    by_image = pixel_weights(prob, 0.6, *rows, scope='image')
    for b, y, x in np.ndindex(3, 8, 5):
        counted = rows[0] <= y < 8 - rows[1]
        share = float((prob >= 0.6).sum()) / 120
        of_image = float((prob[b] >= 0.6).sum()) / 40
        assert weight[b, y, x].item() == pytest.approx(share * counted)
        assert by_image[b, y, x].item() == pytest.approx(of_image * counted)


def test_reordered_images_reorder_the_weights():
    prob, order = uniform(4, 6, 6), torch.tensor([2, 0, 3, 1])
    for scope in ('batch', 'image'):
        weight = pixel_weights(prob, 0.7, 1, 1, scope)
        assert torch.equal(pixel_weights(prob[order], 0.7, 1, 1, scope), weight[order])


def test_weights_may_be_written_to():
    weight = pixel_weights(uniform(2, 4, 4), 0.5)
    weight[0, 0, 0] = 7
    assert (weight == 7).sum() == 1


def test_entropy_of_known_distributions():
    """Equal logits give ln C, one infinite lead gives 0, ln 3 : 0 gives ln 4 - 3/4 ln 3."""
    even = entropy(torch.zeros(1, 19, 1, 1)).item()
    sure = entropy(torch.tensor([0.0, 500.0]).view(1, 2, 1, 1)).item()
    quarter = entropy(torch.tensor([math.log(3), 0.0]).view(1, 2, 1, 1)).item()
    assert even == pytest.approx(math.log(19)) and sure == 0
    assert quarter == pytest.approx(math.log(4) - 0.75 * math.log(3))


def test_the_kept_pixels_are_those_below_numpys_percentile():
    """Fact 25, ties and ignored pixels included."""
    logits, labels = logits_of(3, 5, 16, 17), labels_of(3, 16, 17)
    values, valid = entropy(logits), labels != 255
    values[0] = values[0, 0, 0]
    for percent in (0, 20, 80, 99.5, 100):
        limit = np.float32(np.percentile(values[valid].double().numpy(), percent))
        keep = entropy_keep(values, valid, percent)
        assert torch.equal(keep, valid & (values < limit.item()))
    assert entropy_keep(values, valid, 100).sum() == valid.sum() - 1
    assert entropy_keep(values, valid, 0).sum() == 0


def test_the_percentile_keeps_its_share():
    """80 keeps 80 %: of 1000 valid pixels those with rank below 799.2."""
    values = uniform(2, 25, 40)
    valid = torch.zeros(2, 25, 40, dtype=torch.bool)
    valid[0] = True
    assert entropy_keep(values, valid, 80).sum() == 800


def test_ignored_pixels_have_no_say():
    values, valid = uniform(2, 8, 8), uniform(2, 8, 8, seed=1) < 0.6
    keep = entropy_keep(values, valid, 70)
    poisoned = torch.where(valid, values, torch.nan)
    assert torch.equal(entropy_keep(poisoned, valid, 70), keep)
    assert not (keep & ~valid).any()


def test_scale_turns_the_mean_of_all_into_the_mean_of_the_kept():
    loss, keep = uniform(2, 6, 7), uniform(2, 6, 7, seed=1) < 0.3
    scaled = unsup_scale(keep) * (loss * keep).mean()
    torch.testing.assert_close(scaled, loss[keep].mean())
    nothing = torch.zeros_like(keep)
    assert unsup_scale(nothing) * (loss * nothing).mean() == 0
    assert unsup_scale(nothing).isfinite()


def test_bad_values_are_refused():
    prob = torch.zeros(1, 2, 2)
    with pytest.raises(UserError, match='pixel'):
        pixel_weights(prob, scope='pixel')
    with pytest.raises(UserError, match='-1'):
        pixel_weights(prob, top_rows=-1)


def test_no_step_waits_for_the_device():
    logits = logits_of(2, 5, 8, 8)
    with NoWait():
        _, prob = pseudo_labels(logits)
        keep = entropy_keep(entropy(logits), prob > 0.5, 80)
        weight = pixel_weights(prob, 0.9, 1, 1) * unsup_scale(keep)
        pixel_weights(prob, 0.9, 1, 1, 'image')
    assert weight.shape == (2, 8, 8) and weight.any()
