"""CutMix boxes have half of the area, lie inside and are drawn uniformly."""

import pytest
import torch
from no_wait import NoWait
from pixel_cases import uniform

from mmdistill.core.errors import UserError
from mmdistill.registry import TASK_UTILS
from mmdistill.seg.class_mix import mix
from mmdistill.seg.cut_mix import CutMix, box_mask, half_boxes


@pytest.mark.parametrize('size', [(513, 513), (40, 64), (7, 5), (2, 2), (1, 1)])
def test_boxes_have_half_of_the_area_and_lie_inside(size):
    height, width = size
    boxes = half_boxes(uniform(2000, 3), size)
    left, top, right, bottom = boxes.unbind(1)
    wide, high = right - left, bottom - top
    assert (left >= 0).all() and (right <= width).all() and (wide > 0).all()
    assert (top >= 0).all() and (bottom <= height).all() and (high > 0).all()
    assert ((wide * high - height * width / 2).abs() <= wide / 2 + 1e-9).all()


def test_the_range_of_the_draws():
    """Widths from W // 2 + 1 to W - 1 and all corners, equally likely."""
    boxes = half_boxes(uniform(60000, 3, seed=1), (8, 10))
    width, count = (boxes[:, 2] - boxes[:, 0]).unique(return_counts=True)
    assert width.tolist() == [6, 7, 8, 9]
    assert (count - 15000).abs().max() < 4 * (60000 * 3 / 16) ** 0.5
    six = boxes[boxes[:, 2] - boxes[:, 0] == 6]
    left, count = six[:, 0].unique(return_counts=True)
    assert left.tolist() == [0, 1, 2, 3, 4]
    assert (count - len(six) / 5).abs().max() < 4 * (len(six) * 4 / 25) ** 0.5
    assert six[:, 1].unique().tolist() == [0, 1]  # 40 pixels / 6 = 7 rows of 8


def test_the_ends_of_the_numbers():
    """W = 10: the first width is 6 with 7 rows, the last is 9 with 4 rows, at the far corner."""
    last = 1 - 2.0**-24
    boxes = half_boxes(torch.tensor([[0.0, 0.0, 0.0], [last, last, last]]), (8, 10))
    assert boxes.tolist() == [[0, 0, 6, 7], [1, 4, 10, 8]]


def test_masks_are_true_inside():
    boxes = half_boxes(uniform(5, 3, seed=2), (12, 9))
    mask = box_mask(boxes, (12, 9))
    for n, (left, top, right, bottom) in enumerate(boxes.tolist()):
        expected = torch.zeros(12, 9, dtype=torch.bool)
        expected[top:bottom, left:right] = True
        assert torch.equal(mask[n, 0], expected)


def test_a_batch_is_mixed_or_not_with_the_given_probability():
    images = torch.zeros(3, 1, 6, 6)
    generator = torch.Generator().manual_seed(0)
    mixed = [CutMix(0.3)(images, generator=generator)[0].flatten(1).any(1) for _ in range(2000)]
    mixed = torch.stack(mixed)
    assert (mixed.all(1) | ~mixed.any(1)).all()
    assert abs(mixed[:, 0].double().mean() - 0.3) < 4 * (0.21 / 2000) ** 0.5
    assert not CutMix(0.0)(images)[0].any() and CutMix(1.0)(images)[0].flatten(1).any(1).all()


def test_the_partner_is_the_next_image():
    images = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 3, 6, 8)
    mask, partner = CutMix(1.0)(images, uniform(3, 4))
    assert partner.tolist() == [1, 2, 0]
    mixed = mix(mask, images[partner], images)
    for n in range(3):
        assert (mixed[n, :, mask[n, 0]] == (n + 1) % 3).all()
        assert (mixed[n, :, ~mask[n, 0]] == n).all()


def test_a_batch_turned_in_a_circle_turns_the_result():
    images, numbers = uniform(4, 3, 8, 8), uniform(4, 4, seed=1)
    mix_of = CutMix(1.0)

    def run(images, numbers):
        mask, partner = mix_of(images, numbers)
        return mix(mask, images[partner], images)

    assert torch.equal(run(images.roll(1, 0), numbers.roll(1, 0)), run(images, numbers).roll(1, 0))


def test_an_image_alone_is_its_own_partner():
    images = uniform(1, 3, 8, 8)
    mask, partner = CutMix(1.0)(images)
    assert mask.any() and torch.equal(mix(mask, images[partner], images), images)


def test_no_step_waits_for_the_device():
    images = uniform(2, 3, 8, 8)
    with NoWait():
        mask, partner = CutMix(1.0)(images)
        mixed = mix(mask, images[partner], images)
    assert not torch.equal(mixed, images)


def test_it_is_built_from_configs_and_refuses_bad_ones():
    built = TASK_UTILS.build(dict(type='mmdistill.CutMix', probability=0.25))
    assert built.probability == 0.25
    numbers = built.numbers(5, generator=torch.Generator().manual_seed(0))
    assert numbers.shape == (5, 4) and numbers[:, 0].unique().numel() == 1
    assert numbers[:, 1].unique().numel() == 5
    with pytest.raises(UserError, match='1.5'):
        CutMix(1.5)
