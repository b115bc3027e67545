"""DSA: every family against loops over pixels, replay, parts, draws, gradients, errors."""

import math

import numpy as np
import pytest
import torch

from mmdistill.core.errors import UserError
from mmkd.augment.dsa import DSA, FAMILIES, Record, rotate
from mmkd.registry import TASK_UTILS

EXACT = dict(rtol=0, atol=1e-12)
SIZE = (7, 6)
SIDES = (('top', 'bottom'), ('left', 'right'))


def generator(seed=0):
    """A generator of the CPU."""
    return torch.Generator().manual_seed(seed)


def pictures(count=5, channels=3, size=SIZE, seed=1):
    """Random images in float64."""
    shape = (count, channels, *size)
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def drawn(family, count=5, size=SIZE, seed=2, **options):
    """An augmentation of one family and a record of it."""
    augment = DSA([family], **options)
    return augment, augment.draw(count, size, generator(seed))


def color_of(image, brightness, saturation, contrast):
    """Brightness, saturation, contrast of one image, pixel by pixel."""
    image = image + brightness
    for row in range(image.shape[1]):
        for column in range(image.shape[2]):
            grey = sum(image[:, row, column]) / len(image)
            image[:, row, column] = (image[:, row, column] - grey) * saturation + grey
    level = image.sum() / image.size
    return (image - level) * contrast + level


def crop_of(image, down, right):
    """A padded image, cut."""
    pad = max(abs(down), abs(right))
    height, width = image.shape[1:]
    wide = np.pad(image, [(0, 0), (pad, pad), (pad, pad)])
    return wide[:, pad + down : pad + down + height, pad + right : pad + right + width]


def cutout_of(image, top, bottom, left, right):
    """Zeros pixel by pixel."""
    image = image.copy()
    for row in range(top, bottom):
        for column in range(left, right):
            if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
                image[:, row, column] = 0
    return image


def flip_of(image, flipped):
    """Columns backwards."""
    return image[:, :, ::-1] if flipped else image


def warped(image, source):
    """Bilinear values at ``source(y, x)``, in coordinates from -1 to 1, pixel by pixel."""
    _, height, width = image.shape
    found = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            y, x = source(2 * row / (height - 1) - 1, 2 * column / (width - 1) - 1)
            y, x = (y + 1) * (height - 1) / 2, (x + 1) * (width - 1) / 2
            for r in (math.floor(y), math.floor(y) + 1):
                for c in (math.floor(x), math.floor(x) + 1):
                    if 0 <= r < height and 0 <= c < width:
                        weight = (1 - abs(y - r)) * (1 - abs(x - c))
                        found[:, row, column] += weight * image[:, r, c]
    return found


def scale_of(image, down, right):
    """A larger or smaller window."""
    return warped(image, lambda y, x: (down * y, right * x))


def rotate_of(image, angle):
    """A window that is turned."""
    cos, sin = math.cos(angle), math.sin(angle)
    return warped(image, lambda y, x: (sin * x + cos * y, cos * x - sin * y))


WRITTEN_OUT = dict(
    color=color_of,
    crop=crop_of,
    cutout=cutout_of,
    flip=flip_of,
    scale=scale_of,
    rotate=rotate_of,
)


@pytest.mark.parametrize('size', [SIZE, (6, 9)])
@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('family', FAMILIES)
def test_every_family_equals_its_formula_sample_by_sample(family, channels, size):
    images = pictures(8, channels, size)
    augment, record = drawn(family, 8, size)
    found = augment(images, record)
    for index, (mine, image) in enumerate(zip(found, images.numpy(), strict=True)):
        numbers = {name: each[index].item() for name, each in record.values.items()}
        wanted = WRITTEN_OUT[family](image, **numbers)
        torch.testing.assert_close(mine, torch.from_numpy(wanted.copy()), **EXACT)
    changed = (found != images).flatten(1).any(1)
    assert changed.any() and found.dtype == torch.float64
    assert len(set(map(tuple, torch.stack(list(record.values.values()), 1).tolist()))) > 1


@pytest.mark.parametrize('family', FAMILIES)
def test_a_record_gives_the_same_images_and_gradients_again(family):
    images = pictures()
    augment, record = drawn(family)
    weights = pictures(seed=3)
    results = []
    for _ in range(2):
        leaf = images.clone().requires_grad_()
        found = augment(leaf, record)
        results.append((found.detach(), torch.autograd.grad((found * weights).sum(), leaf)[0]))
        assert torch.equal(leaf, images)
        # other draws in between change nothing
        torch.rand(3)
        drawn(family, seed=9)
    (one, slope), (other, again) = results
    assert torch.equal(one, other) and torch.equal(slope, again) and bool((slope != 0).any())


@pytest.mark.parametrize('family', FAMILIES)
def test_a_part_of_a_batch_is_augmented_as_in_the_whole(family):
    images = pictures(9)
    augment, record = drawn(family, 9)
    whole = augment(images, record)
    for part in (slice(0, 4), slice(4, 9), torch.tensor([7, 0, 3])):
        some = augment(images[part], record.rows(part))
        torch.testing.assert_close(some, whole[part], **EXACT)


@pytest.mark.parametrize('family', FAMILIES)
def test_gradients_are_those_of_differences(family):
    augment, record = drawn(family, 2, (4, 5))
    images = pictures(2, 2, (4, 5)).requires_grad_()
    assert torch.autograd.gradcheck(lambda given: augment(given, record), images)
    assert torch.autograd.gradgradcheck(lambda given: augment(given.sin(), record), images)


def test_one_family_per_batch_drawn_evenly():
    augment, draw = DSA(), generator(5)
    often = dict.fromkeys(FAMILIES, 0)
    for _ in range(1200):
        often[augment.draw(2, SIZE, draw).family] += 1
    # a chi-square of 5 degrees of freedom is above 30 once in 70 000 times
    assert sum((each - 200) ** 2 / 200 for each in often.values()) < 30
    assert augment.families == DSA('color_crop_cutout_flip_scale_rotate').families


def spread(values, low, high):
    """Whether 4000 numbers look uniform on an interval."""
    values = (values.double() - low) / (high - low)
    ranked = values.sort().values
    distance = (ranked - (torch.arange(4000) + 0.5) / 4000).abs().max()
    return float(ranked[0]) >= 0 and float(ranked[-1]) <= 1 and float(distance) < 0.032


@pytest.mark.parametrize(
    'options, limits',
    [
        ({}, dict(brightness=(-0.5, 0.5), saturation=(0, 2), contrast=(0.5, 1.5))),
        (
            dict(brightness=0.4, saturation=3, contrast=0.2),
            dict(brightness=(-0.2, 0.2), saturation=(0, 3), contrast=(0.2, 1.2)),
        ),
        ({}, dict(down=(1 / 1.2, 1.2), right=(1 / 1.2, 1.2))),
        (dict(scale=4), dict(down=(0.25, 4), right=(0.25, 4))),
        ({}, dict(angle=(-math.pi / 12, math.pi / 12))),
        (dict(rotate=90), dict(angle=(-math.pi / 2, math.pi / 2))),
    ],
)
def test_numbers_are_uniform_within_the_strengths_and_independent(options, limits):
    family = dict(brightness='color', down='scale', angle='rotate')[min(limits)]
    _, record = drawn(family, 4000, **options)
    assert set(record.values) == set(limits)
    for name, (low, high) in limits.items():
        assert spread(record.values[name], low, high), name
    alike = torch.corrcoef(torch.stack([*record.values.values(), torch.linspace(0, 1, 4000)]))
    assert float((alike - torch.eye(len(alike))).abs().max()) < 0.08


def counts(values):
    """How often every integer comes."""
    found, often = values.unique(return_counts=True)
    return dict(zip(found.tolist(), often.tolist(), strict=True))


def test_windows_move_by_every_whole_number_up_to_the_rounded_share():
    _, record = drawn('crop', 4000, (32, 20))
    # 0.125 of 32 is 4, of 20 is 2.5: rounded up
    for name, most in dict(down=4, right=3).items():
        often = counts(record.values[name])
        assert sorted(often) == list(range(-most, most + 1))
        wanted = 4000 / (2 * most + 1)
        assert max(abs(each - wanted) for each in often.values()) < 6 * wanted**0.5


def test_squares_lie_anywhere_and_are_cut_at_the_border():
    augment, record = drawn('cutout', 4000, (8, 6))
    height, width = (record.values[end] - record.values[start] for start, end in SIDES)
    assert counts(height) == {4: 4000} and counts(width) == {3: 4000}
    # an even side of 4 pixels begins at -2 to 6, an odd one of 3 pixels at -1 to 4
    for (start, _), places in zip(SIDES, (range(-2, 7), range(-1, 5)), strict=True):
        often = counts(record.values[start])
        wanted = 4000 / len(places)
        assert sorted(often) == list(places)
        assert max(abs(each - wanted) for each in often.values()) < 6 * wanted**0.5
    holes = (augment(torch.ones(4000, 1, 8, 6), record) == 0).sum((1, 2, 3))
    assert int(holes.min()) == 2 * 2 and int(holes.max()) == 4 * 3


def test_a_share_of_samples_is_flipped():
    for share in (0.0, 0.3, 1.0):
        _, record = drawn('flip', 4000, flip=share)
        found = float(record.values['flipped'].double().mean())
        assert found == pytest.approx(share, abs=5 * (share * (1 - share) / 4000) ** 0.5)


@pytest.mark.parametrize(
    'family, options',
    [
        ('crop', dict(crop=0)),
        ('cutout', dict(cutout=0)),
        ('flip', dict(flip=0)),
        ('scale', dict(scale=1)),
        ('rotate', dict(rotate=0)),
    ],
)
def test_strengths_that_do_nothing(family, options):
    images = pictures()
    augment, record = drawn(family, **options)
    torch.testing.assert_close(augment(images, record), images, **EXACT)


def test_neutral_numbers_of_colour_and_one_channel():
    images, one = pictures(), torch.ones(5)
    neutral = FAMILIES['color'](images, 0 * one, one, one)
    torch.testing.assert_close(neutral, images, **EXACT)
    # without brightness and contrast only saturation is left, which one channel does not have
    grey = images[:, :1]
    torch.testing.assert_close(FAMILIES['color'](grey, 0 * one, 3 * one, one), grey, **EXACT)
    assert not torch.allclose(FAMILIES['color'](images, 0 * one, 3 * one, one), images)


def test_a_quarter_turn_is_anticlockwise():
    images = pictures(size=(6, 6))
    turned = rotate(images, torch.full((5,), math.pi / 2, dtype=torch.float64))
    torch.testing.assert_close(turned, images.rot90(1, (2, 3)), **EXACT)


def test_all_of_an_image_can_be_cut_out_or_moved_out():
    images, far = pictures(), torch.full((5,), 7)
    hole = dict(top=-far, bottom=2 * far, left=-far, right=2 * far)
    for record in (Record('cutout', hole), Record('crop', dict(down=far, right=0 * far))):
        assert not DSA()(images, record).any()


@pytest.mark.parametrize('family', FAMILIES)
def test_equal_generators_draw_equal_records_whatever_else_is_drawn(family):
    _, one = drawn(family)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    _, again = drawn(family)
    _, other = drawn(family, count=40, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one.values[name], again.values[name]) for name in one.values)
    assert any(not torch.equal(one.values[name], other.values[name][:5]) for name in one.values)


@pytest.mark.parametrize('family', FAMILIES)
def test_siamese_batches_have_the_same_numbers_for_all_samples(family):
    images = pictures(1).expand(6, -1, -1, -1)
    augment, record = drawn(family, 6, siamese=True)
    found = augment(images, record)
    assert all(each.shape == (6,) and len(each.unique()) == 1 for each in record.values.values())
    torch.testing.assert_close(found, found[:1].expand_as(found), **EXACT)
    assert any(len(each.unique()) > 1 for each in drawn(family, 6)[1].values.values())


@pytest.mark.parametrize('family', FAMILIES)
def test_types_stay_and_nothing_is_made_on_another_device(family):
    augment, record = drawn(family)
    single = augment(pictures().float(), record)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), augment(pictures(), record), rtol=0, atol=1e-5)
    away = augment(pictures().to('meta'), record.to('meta'))
    assert away.device.type == 'meta' and away.shape == single.shape


def test_built_from_a_config_as_lists_are():
    augment = TASK_UTILS.build(dict(type='DSA', families=['crop', 'scale'], scale=1.5))
    assert augment == DSA('crop_scale', scale=1.5) and augment.families == ('crop', 'scale')


def test_what_is_wrong_is_named():
    with pytest.raises(UserError, match=r"'colour' of DSA is not known \(did you mean 'color'"):
        DSA('colour_crop')
    for families in ([], ['crop', 'crop']):
        with pytest.raises(UserError, match='at least one and each once'):
            DSA(families)
    for name, value, limit in (
        ('brightness', -1, 'at least 0'),
        ('saturation', math.inf, 'at least 0'),
        ('contrast', math.nan, 'at least 0'),
        ('crop', 1.5, 'from 0 to 1'),
        ('cutout', -0.1, 'from 0 to 1'),
        ('flip', 2, 'from 0 to 1'),
        ('scale', 0.9, 'at least 1'),
        ('rotate', 181, 'from 0 to 180'),
    ):
        with pytest.raises(UserError, match=f'{name} of DSA must be {limit}, got {value}'):
            DSA(**{name: value})
