"""Mixing patches equals its definition, pixel by pixel."""

import pytest
import torch
from pose_cases import mixed_by_definition, uniform

from mmdistill.pose.patches import Patches, mix_patches


def random_patches(batch, count, size, seed=0, reach=6):
    """Patches anywhere, also over the borders and over one another."""
    width, height = size
    numbers = uniform(batch, count, 9, seed=seed)
    scale = torch.tensor([width + 2 * reach, height + 2 * reach])
    return Patches(
        target=(numbers[..., :2] * scale).long() - reach,
        source=(numbers[..., 2:4] * scale).long() - reach,
        donor=(numbers[..., 4] * batch).long(),
        half=(numbers[..., 5:7] * reach).long(),
        weight=numbers[..., 7],
        active=numbers[..., 8] < 0.85,
        reach=reach,
    )


def one_patch(target, source, half=(15, 15), weight=1.0, batch=1):
    """The same patch in every sample, read from the sample itself."""
    return Patches(
        target=torch.tensor(target).repeat(batch, 1, 1),
        source=torch.tensor(source).repeat(batch, 1, 1),
        donor=torch.arange(batch)[:, None],
        half=torch.tensor(half).repeat(batch, 1, 1),
        weight=torch.full((batch, 1), weight),
        active=torch.ones(batch, 1, dtype=torch.bool),
        reach=max(half),
    )


@pytest.mark.parametrize('fill', [None, 0.0, 0.25])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ('batch', 'count', 'size'), [(1, 1, (9, 7)), (3, 2, (16, 21)), (5, 6, (23, 14)), (2, 9, (8, 8))]
)
def test_mixing_equals_the_definition(batch, count, size, dtype, fill):
    """Fact 8: bit for bit, patches over borders and over one another included."""
    for seed in range(3):
        images = (uniform(batch, 3, *size[::-1], seed=seed) - 0.5).to(dtype)
        patches = random_patches(batch, count, size, seed=seed + 10)
        assert torch.equal(
            mix_patches(images, patches, fill), mixed_by_definition(images, patches, fill)
        )


@pytest.mark.parametrize('fill', [None, 0.0])
def test_weight_zero_is_the_identity_and_one_is_pasting(fill):
    """Fact 8: the share of the original is 1 - weight."""
    images = uniform(4, 3, 21, 16) - 0.5
    patches = random_patches(4, 5, (16, 21))
    still = Patches(**{**vars(patches), 'weight': torch.zeros(4, 5)})
    assert torch.equal(mix_patches(images, still, fill), images)
    paste = Patches(**{**vars(patches), 'weight': torch.ones(4, 5)})
    values = set(images.flatten().tolist()) | {0.0}
    assert set(mix_patches(images, paste, fill).flatten().tolist()) <= values


def test_x_is_x_and_the_lowest_quarter_is_mixed():
    """Fact 9: a joint at (50, 200) changes rows 185..215; one at y = 240 is mixed at all."""
    images = uniform(1, 3, 256, 192)
    changed = (mix_patches(images, one_patch([[50, 200]], [[100, 60]])) != images).any(1)[0]
    rows, columns = changed.any(1).nonzero()[:, 0], changed.any(0).nonzero()[:, 0]
    assert (rows.min(), rows.max()) == (185, 215)
    assert (columns.min(), columns.max()) == (35, 65)
    changed = (mix_patches(images, one_patch([[50, 240]], [[100, 60]])) != images).any(1)[0]
    rows = changed.any(1).nonzero()[:, 0]
    assert (rows.min(), rows.max()) == (225, 255)


def test_the_last_patch_that_can_supply_a_pixel_wins():
    images = torch.arange(20.0).view(1, 1, 1, 20)
    patches = Patches(
        target=torch.tensor([[[5, 0], [7, 0]]]),
        source=torch.tensor([[[15, 0], [0, 0]]]),
        donor=torch.zeros(1, 2, dtype=torch.long),
        half=torch.tensor([[[3, 0], [3, 0]]]),
        weight=torch.ones(1, 2),
        active=torch.ones(1, 2, dtype=torch.bool),
        reach=3,
    )
    # pixels 4..10 belong to the second, but its sources for 4..6 lie left of the image
    expected = [0, 1, 12, 13, 14, 15, 16, 0, 1, 2, 3, *range(11, 20)]
    assert mix_patches(images, patches).flatten().tolist() == expected
    # with a fill the second supplies them all
    expected[4:7] = [-1, -1, -1]
    assert mix_patches(images, patches, fill=-1).flatten().tolist() == expected


def test_reads_come_from_the_unmixed_image():
    images = torch.arange(6.0).view(1, 1, 1, 6)
    patches = Patches(
        target=torch.tensor([[[1, 0], [4, 0]]]),
        source=torch.tensor([[[4, 0], [1, 0]]]),
        donor=torch.zeros(1, 2, dtype=torch.long),
        half=torch.zeros(1, 2, 2, dtype=torch.long),
        weight=torch.ones(1, 2),
        active=torch.ones(1, 2, dtype=torch.bool),
        reach=0,
    )
    assert mix_patches(images, patches).flatten().tolist() == [0, 4, 2, 3, 1, 5]


def test_images_of_whole_numbers_are_refused():
    with pytest.raises(ValueError, match='uint8'):
        mix_patches(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), one_patch([[4, 4]], [[2, 2]]))
