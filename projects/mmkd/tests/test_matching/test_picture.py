"""Laws of pictures: bytes, class after class, whatever the images are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmkd.matching.picture import WIDEST, grid

WHITE, BLACK, GREY = 255, 0, 128


def noise(count: int, channels: int = 3, height: int = 4, width: int = 5) -> Tensor:
    """Random images."""
    draw = torch.Generator().manual_seed(count)
    return torch.randn(count, channels, height, width, generator=draw)


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize(('classes', 'per_class'), [(3, 1), (4, 10), (2, 25), (10, 1000)])
def test_sizes(classes: int, per_class: int, channels: int) -> None:
    picture = grid(noise(classes * per_class, channels), per_class, scale=2, gap=3)
    shown = min(10, per_class)
    assert picture.shape == (classes * (2 * 4 + 3), shown * (2 * 5 + 3), 3)
    assert picture.dtype == torch.uint8 and picture.is_contiguous()


@pytest.mark.parametrize('per_class', [1, 3, 12])
def test_rows_are_classes_in_their_order(per_class: int) -> None:
    numbers = torch.arange(4 * per_class, dtype=torch.float32)
    images = numbers.view(-1, 1, 1, 1).expand(-1, 3, 4, 5)
    picture = grid(images, per_class, most=5, gap=1)
    shown = min(5, per_class)
    tiles = picture.view(4, 5, shown, 6, 3)
    light = tiles[:, 0, :, 0, 0].float()
    # brighter from image to image, and from class to class by per_class images
    assert (light.diff(dim=0) > 0).all() and (light.diff(dim=1) > 0).all()
    assert (tiles[:, :4, :, :5] == tiles[:, :1, :, :1]).all()
    assert (tiles[:, 4] == WHITE).all() and (tiles[:, :, :, 5] == WHITE).all()


def test_values_by_hand() -> None:
    images = noise(6).double()
    picture = grid(images.float(), 2, gap=0)
    for channel in range(3):
        values = images[:, channel]
        spread = values.std(unbiased=False)
        light = ((values - values.mean()) / (2 * WIDEST * spread) + 0.5).clamp(0, 1)
        rows = [torch.cat([light[2 * n], light[2 * n + 1]], 1) for n in range(3)]
        wanted = 255 * torch.cat(rows)
        assert (picture[..., channel].double() - wanted).abs().max() <= 0.501


def test_range_and_unit_play_no_role() -> None:
    images = noise(4)
    factor = torch.tensor([4.0, 0.25, 16.0]).view(3, 1, 1)
    gap = grid(images, 2).int() - grid(factor * images - 3, 2).int()
    assert gap.abs().max() <= 1


def test_pixels_are_repeated() -> None:
    images = noise(4)
    small, large = grid(images, 2, gap=0), grid(images, 2, scale=3, gap=0)
    assert torch.equal(large, small.repeat_interleave(3, 0).repeat_interleave(3, 1))


def test_one_channel_is_grey() -> None:
    images = noise(4, channels=1)
    picture = grid(images, 2)
    assert (picture == picture[..., :1]).all()
    assert torch.equal(picture, grid(images.expand(-1, 3, -1, -1), 2))


@pytest.mark.parametrize('value', [0.0, -3.0, 0.1, 1e6])
def test_constant_images_are_grey(value: float) -> None:
    picture = grid(torch.full((6, 3, 8, 8), value), 2, gap=0)
    assert (picture == GREY).all()


def test_values_that_are_no_numbers_are_black_and_disturb_nothing_else() -> None:
    images = noise(4)
    images[1, :, 2, 3] = torch.nan
    picture = grid(images, 2, gap=0)
    assert (picture[2, 5 + 3] == BLACK).all()
    images[1, :, 2, 3] = images.nanmean((0, 2, 3))
    gap = picture.int() - grid(images, 2, gap=0).int()
    gap[2, 5 + 3] = 0
    assert gap.abs().max() <= 2
    assert (grid(torch.full((4, 1, 3, 3), torch.nan), 2, gap=0) == BLACK).all()


def test_an_infinite_pixel_leaves_a_picture() -> None:
    images = noise(4)
    images[1, 0, 2, 3] = torch.inf
    picture = grid(images, 2)
    assert picture.dtype == torch.uint8
    images[1, 0, 2, 3] = 0
    assert torch.equal(picture[..., 1:], grid(images, 2)[..., 1:])


def test_what_is_given_stays() -> None:
    images = noise(4).requires_grad_()
    before = images.detach().clone()
    assert not grid(images, 2).requires_grad
    assert torch.equal(images, before)
