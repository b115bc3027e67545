"""Colour jitter equals the standard library's HSV pixel by pixel, and torchvision's blends."""

import itertools

import pytest
import torch
from pixel_cases import hsv_jitter_by_loops, uniform

from mmdistill.core.errors import UserError
from mmdistill.seg.color_jitter import color_jitter

ORDERS = list(itertools.permutations(range(4)))
NEUTRAL = torch.tensor([[1.0, 1.0, 1.0, 0.0]])


def colours():
    """Random colours and the corners: grey, black, white, pure and doubled maxima."""
    images = uniform(3, 3, 4, 6)
    corners = torch.tensor(list(itertools.product([0.0, 0.5, 1.0], repeat=3)))
    images[0].view(3, -1)[:] = corners[:24].t()
    return images


def factors_of(batch, seed=0):
    """Factors of strength 0.5, one row per image."""
    return (uniform(batch, 4, seed=seed) - 0.5) + NEUTRAL


@pytest.mark.parametrize('order', ORDERS[::3] + [(2,), (3,), ()])
def test_hsv_is_that_of_the_standard_library(order):
    images, factors = colours(), factors_of(3)
    expected = hsv_jitter_by_loops(images, factors, order)
    torch.testing.assert_close(
        color_jitter(images, factors, order).double(), expected, atol=3e-6, rtol=0
    )


@pytest.mark.parametrize('order', ORDERS[::5])
def test_blend_is_torchvisions(order):
    functional = pytest.importorskip('torchvision.transforms.v2.functional')
    steps = [
        functional.adjust_brightness,
        functional.adjust_contrast,
        functional.adjust_saturation,
        functional.adjust_hue,
    ]
    images, factors = colours(), factors_of(3, seed=1)
    expected = []
    for image, row in zip(images, factors.tolist(), strict=True):
        for index in order:
            image = steps[index](image, row[index])
        expected.append(image)
    mixed = color_jitter(images, factors, order, 'blend')
    torch.testing.assert_close(mixed, torch.stack(expected), atol=2e-6, rtol=0)


def test_steps_by_hand():
    """0.2, 0.4, 0.8 brighter by 0.3; with contrast 1.5; half as saturated; a third around."""
    image = torch.tensor([0.2, 0.4, 0.8]).view(1, 3, 1, 1)
    for index, factor, expected in (
        (0, 1.3, [0.5, 0.7, 1.0]),
        (1, 1.5, [0.3, 0.6, 1.0]),
        (2, 0.5, [0.5, 0.6, 0.8]),
        (2, 9.0, [0.0, 0.8 - 0.4 * 4 / 3, 0.8]),
        (3, 1 / 3, [0.8, 0.2, 0.4]),
        (3, -1 / 3, [0.4, 0.8, 0.2]),
        (3, 0.5, [0.8, 0.6, 0.2]),
    ):
        factors = NEUTRAL.clone()
        factors[0, index] = factor
        changed = color_jitter(image, factors, (index,)).flatten()
        torch.testing.assert_close(changed, torch.tensor(expected), msg=f'{index} {factor}')


@pytest.mark.parametrize('definition', ['hsv', 'blend'])
def test_neutral_factors_change_nothing(definition):
    images = colours()
    changed = color_jitter(images, NEUTRAL.expand(3, 4), definition=definition)
    torch.testing.assert_close(changed, images, atol=1e-6, rtol=0)
    assert changed.min() >= 0 and changed.max() <= 1


@pytest.mark.parametrize('definition', ['hsv', 'blend'])
def test_each_image_has_its_own_factors(definition):
    images, factors = colours(), factors_of(3, seed=2)
    whole = color_jitter(images, factors, (3, 1, 0, 2), definition)
    for n in range(3):
        alone = color_jitter(images[n : n + 1], factors[n : n + 1], (3, 1, 0, 2), definition)
        torch.testing.assert_close(alone[0], whole[n])


def test_hue_turns_compose_to_the_full_circle():
    images = uniform(2, 3, 5, 5, seed=3)
    changed = images
    for turn in (0.2, 0.35, 0.45):
        changed = color_jitter(
            changed,
            NEUTRAL.expand(2, 4) * torch.tensor([1, 1, 1, 0]) + (torch.tensor([0, 0, 0, turn])),
            (3,),
        )
        torch.testing.assert_close(changed.amax(1), images.amax(1))
        torch.testing.assert_close(changed.amin(1), images.amin(1))
    torch.testing.assert_close(changed, images, atol=1e-5, rtol=0)


@pytest.mark.parametrize('definition', ['hsv', 'blend'])
def test_grey_stays_grey(definition):
    grey = uniform(2, 1, 4, 4).expand(2, 3, 4, 4)
    changed = color_jitter(grey, factors_of(2), definition=definition)
    assert (changed.amax(1) - changed.amin(1)).max() < 1e-6


def test_inputs_stay_and_precision_is_kept():
    images = colours().double()
    kept = images.clone()
    for definition in ('hsv', 'blend'):
        changed = color_jitter(images, factors_of(3), definition=definition)
        assert changed.dtype == torch.double and torch.equal(images, kept)
        assert not torch.equal(changed, images)


def test_bad_input_is_refused():
    with pytest.raises(UserError, match='kornia'):
        color_jitter(colours(), factors_of(3), definition='kornia')
    with pytest.raises(ValueError, match='factors'):
        color_jitter(colours(), factors_of(2))
    with pytest.raises(ValueError, match=r'\(3, 1, 4, 6\)'):
        color_jitter(colours()[:, :1], factors_of(3))
