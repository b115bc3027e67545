"""Blur equals its definition; the view is drawn as published and leaves its inputs alone."""

import pytest
import torch
from no_wait import NoWait
from pixel_cases import blur_by_loops, hsv_jitter_by_loops, uniform

from mmdistill.core.errors import UserError
from mmdistill.registry import TASK_UTILS
from mmdistill.seg.photometric import (
    PhotometricNumbers,
    StrongPhotometric,
    blur_kernel_size,
    gaussian_blur,
)

MEAN, STD = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])


def normalised(*shape, seed=0):
    """Images as mmseg's preprocessor gives them."""
    return (uniform(*shape, seed=seed) * 255 - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)


def test_taps_of_the_published_sizes():
    """512: 51, 640: 63; always odd."""
    assert blur_kernel_size(512) == 51 and blur_kernel_size(640) == 63
    assert all(blur_kernel_size(length) % 2 == 1 for length in range(1, 2000))


@pytest.mark.parametrize('kernel_size', [(3, 7), (15, 15), (1, 5)])
@pytest.mark.parametrize('sigma_max', [None, 1.15])
def test_blur_is_that_of_the_loops(kernel_size, sigma_max):
    images, sigma = uniform(3, 2, 18, 20) * 4 - 2, torch.tensor([0.15, 0.7, 1.15])
    blurred = gaussian_blur(images, sigma, kernel_size, sigma_max)
    expected = blur_by_loops(images, sigma, kernel_size)
    torch.testing.assert_close(blurred.double(), expected, atol=1e-6, rtol=0)


def test_taps_left_out_do_not_count():
    images, sigma = uniform(2, 3, 64, 64), torch.tensor([0.4, 1.15])
    every = gaussian_blur(images.double(), sigma.double(), (51, 51))
    few = gaussian_blur(images, sigma, (51, 51), 1.15)
    assert (every - few).abs().max() < 1e-6


def test_blur_by_hand():
    """A bright row with sigma 1 and three taps: e^-1/2 : 1 : e^-1/2."""
    images = torch.zeros(1, 1, 5, 5)
    images[0, 0, 2] = 1
    side = 2.718281828**-0.5
    rows = torch.tensor([0, side, 1, side, 0]) / (1 + 2 * side)
    blurred = gaussian_blur(images, torch.ones(1), (3, 3))
    torch.testing.assert_close(blurred[0, 0], rows[:, None].expand(5, 5))


def test_blur_keeps_constants_and_the_order_of_images():
    flat = torch.full((2, 3, 16, 16), 0.7)
    torch.testing.assert_close(gaussian_blur(flat, torch.tensor([0.3, 2.0]), (7, 7)), flat)
    images, sigma = uniform(3, 3, 16, 16), torch.tensor([0.3, 1.0, 2.0])
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(
        gaussian_blur(images[order], sigma[order], (7, 5)),
        gaussian_blur(images, sigma, (7, 5))[order],
    )
    with pytest.raises(ValueError, match='odd'):
        gaussian_blur(images, sigma, (4, 5))


def numbers_of(jitter, blur, batch=2, seed=0):
    """Chosen decisions with drawn strengths."""
    return PhotometricNumbers(jitter, blur, (2, 0, 3, 1), uniform(batch, 5, seed=seed))


def test_the_view_is_jitter_then_blur_in_pixel_values():
    images, numbers = normalised(2, 3, 24, 30), numbers_of(True, True)
    rgb = (images * STD.view(3, 1, 1) + MEAN.view(3, 1, 1)) / 255
    factors = (numbers.uniform[:, :4] * 2 - 1) * 0.2 + torch.tensor([1.0, 1.0, 1.0, 0.0])
    changed = hsv_jitter_by_loops(rgb, factors, numbers.order)
    changed = (changed * 255 - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)
    expected = blur_by_loops(changed, 0.15 + numbers.uniform[:, 4], (3, 3))
    view = StrongPhotometric()(images, MEAN, STD, numbers)
    torch.testing.assert_close(view.double(), expected, atol=3e-5, rtol=0)


def test_steps_not_drawn_are_not_done():
    images = normalised(2, 3, 24, 24)
    strong = StrongPhotometric()
    assert torch.equal(strong(images, MEAN, STD, numbers_of(False, False)), images)
    blurred = strong(images, MEAN, STD, numbers_of(False, True))
    sigma = 0.15 + numbers_of(False, True).uniform[:, 4]
    torch.testing.assert_close(blurred, gaussian_blur(images, sigma, (3, 3)))
    still = StrongPhotometric(strength=0.0)(images, MEAN, STD, numbers_of(True, False))
    torch.testing.assert_close(still, images, atol=1e-5, rtol=0)


def test_draws_have_the_published_probabilities():
    """Jitter 0.8, blur 0.5, independent; each order of the four steps alike."""
    strong, generator = StrongPhotometric(), torch.Generator().manual_seed(0)
    drawn = [strong.numbers(2, generator=generator) for _ in range(4800)]
    jitter = torch.tensor([each.jitter for each in drawn]).double()
    blur = torch.tensor([each.blur for each in drawn]).double()
    spread = 4 * (0.25 / 4800) ** 0.5
    assert abs(jitter.mean() - 0.8) < spread and abs(blur.mean() - 0.5) < spread
    assert abs((jitter * blur).mean() - 0.4) < spread
    orders = [each.order for each in drawn]
    assert all(abs(orders.count(o) - 200) < 4 * 14 for o in set(orders))
    assert len(set(orders)) == 24
    numbers = torch.stack([each.uniform for each in drawn])
    assert numbers.shape == (4800, 2, 5) and (numbers.mean((0, 1)) - 0.5).abs().max() < 0.02


def test_one_seed_one_view():
    images = normalised(2, 3, 16, 16)

    def run(seed):
        generator = torch.Generator().manual_seed(seed)
        return StrongPhotometric(jitter_probability=1.0)(images, MEAN, STD, generator=generator)

    assert torch.equal(run(1), run(1)) and not torch.equal(run(1), run(2))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_inputs_stay_and_precision_is_kept(dtype):
    """Fact 26, with and without autocast."""
    images = normalised(2, 3, 24, 24).to(dtype).requires_grad_()
    kept, numbers = images.detach().clone(), numbers_of(True, True)
    strong = StrongPhotometric()
    exact = strong(images.double(), MEAN, STD, numbers)
    with torch.autocast('cpu', torch.bfloat16):
        view = strong(images, MEAN, STD, numbers)
    assert view.dtype == dtype and view.shape == images.shape and not view.requires_grad
    assert torch.equal(images.detach(), kept)
    assert (view.double() - exact).abs().max() < 4 * torch.finfo(dtype).eps + 3e-6


@pytest.mark.parametrize('definition', ['hsv', 'blend'])
def test_no_step_waits_for_the_device(definition):
    """The draws are the CPU's, the rest is the device's."""
    images, strong = (
        normalised(2, 3, 24, 24),
        StrongPhotometric(0.2, 1.0, 1.0, (1.0, 1.1), definition),
    )
    drawn = strong.numbers(2)
    with NoWait():
        view = strong(images, MEAN, STD, drawn)
    assert drawn.jitter and drawn.blur and not torch.equal(view, images)


def test_it_is_built_from_configs_and_refuses_bad_ones():
    built = TASK_UTILS.build(dict(type='mmdistill.StrongPhotometric', strength=0.1))
    assert built.strength == 0.1 and built.definition == 'hsv'
    for wrong in (
        dict(strength=0.6),
        dict(jitter_probability=-0.1),
        dict(blur_probability=2),
        dict(sigma=(0.0, 1.0)),
        dict(sigma=(2.0, 1.0)),
        dict(sigma=1.0),
        dict(definition='pil'),
    ):
        with pytest.raises(UserError, match=f'{next(iter(wrong))} of StrongPhotometric'):
            StrongPhotometric(**wrong)
