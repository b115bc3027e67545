"""Crops for a rare class: the law of each crop, and mmseg's own crop where nothing is asked."""

# ruff: noqa: NPY002  (transforms draw from numpy's global generator)
import numpy as np
import pytest
from mmcv.transforms.utils import cache_random_params
from mmseg.datasets.transforms import RandomCrop

from mmdistill.core.errors import UserError
from mmdistill.seg.rare_class_crop import RareClassCrop

SIZE = (24, 32)


def scene(rare_side=20):
    """A label of 60 x 90 in large blocks, class 5 in one corner, and its image."""
    label = np.random.default_rng(1).integers(0, 3, (6, 9)).astype(np.uint8)
    label = label.repeat(10, 0).repeat(10, 1)
    label[:8, :30] = 255
    label[-rare_side:, -rare_side:] = 5
    image = np.arange(60 * 90 * 3).reshape(60, 90, 3) % 251
    return dict(img=image.astype(np.uint8), gt_seg_map=label, seg_fields=['gt_seg_map'])


def crop(transform, results, seed):
    """One crop under a seed."""
    np.random.seed(seed)
    return transform(dict(results))


class Counted(RareClassCrop):
    """Counts its tries."""

    tries = 0

    def _try(self, results):
        self.tries += 1
        return super()._try(results)


@pytest.mark.parametrize('ratio', [1.0, 0.75, 0.4])
@pytest.mark.parametrize('extra', [{}, dict(rare_class=None)])
def test_without_a_drawn_class_it_is_the_crop_of_mmseg(ratio, extra):
    ours, theirs = RareClassCrop(SIZE, ratio), RandomCrop(SIZE, ratio)
    for seed in range(100):
        a, b = crop(ours, {**scene(), **extra}, seed), crop(theirs, scene(), seed)
        np.testing.assert_array_equal(a['img'], b['img'])
        np.testing.assert_array_equal(a['gt_seg_map'], b['gt_seg_map'])
        assert a['img_shape'] == b['img_shape']


def test_ratio_zero_takes_the_first_crop():
    ours, theirs = RareClassCrop(SIZE, 0.75, min_crop_ratio=0), RandomCrop(SIZE, 0.75)
    asked = dict(scene(), rare_class=5, rare_class_pixels=300)
    for seed in range(20):
        a, b = crop(ours, asked, seed), crop(theirs, scene(), seed)
        np.testing.assert_array_equal(a['img'], b['img'])


@pytest.mark.parametrize('ratio', [1.0, 0.75])
def test_every_crop_shows_enough_of_the_class_or_all_tries_were_used(ratio):
    asked = dict(scene(), rare_class=5, rare_class_pixels=300)
    used = set()
    for seed in range(300):
        transform = Counted(SIZE, ratio)
        found = (crop(transform, asked, seed)['gt_seg_map'] == 5).sum()
        assert found > 150 or transform.tries == 11
        used.add(transform.tries)
    assert {1, 2, 3, 11} <= used <= set(range(1, 12))


def test_crops_with_enough_of_the_class_are_as_frequent_as_eleven_tries_make_them():
    asked = dict(scene(), rare_class=5, rare_class_pixels=300)
    label = asked['gt_seg_map']
    boxes = [label[y : y + 24, x : x + 32] for y in range(60 - 24 + 1) for x in range(90 - 32 + 1)]
    share = np.mean([(box == 5).sum() > 150 for box in boxes])
    expected = 1 - (1 - share) ** 11
    transform = RareClassCrop(SIZE)
    np.random.seed(0)
    enough = [(transform(dict(asked))['gt_seg_map'] == 5).sum() > 150 for _ in range(4000)]
    assert 0.2 < expected < 0.8
    assert np.mean(enough) == pytest.approx(expected, abs=4 * 0.5 / 4000**0.5)


def test_tries_are_the_crops_that_mmseg_draws_one_after_the_other():
    asked = dict(scene(), rare_class=5, rare_class_pixels=300)
    for seed in range(50):
        got = crop(RareClassCrop(SIZE, 0.75), asked, seed)['gt_seg_map']
        theirs = RandomCrop(SIZE, 0.75)
        np.random.seed(seed)
        for _ in range(11):
            wanted = theirs(scene())['gt_seg_map']
            if (wanted == 5).sum() > 150:
                break
        np.testing.assert_array_equal(got, wanted)


def test_more_than_the_limit_is_meant():
    label = np.zeros((4, 4), np.uint8)
    label[0] = 5
    results = dict(img=label[..., None].repeat(3, 2), gt_seg_map=label, seg_fields=['gt_seg_map'])
    for pixels, tries in ((7, 1), (8, 11)):  # half of it is 3.5 and 4, the crop holds 4
        transform = Counted((4, 4))
        crop(transform, dict(results, rare_class=5, rare_class_pixels=pixels), 0)
        assert transform.tries == tries


def test_redraws_bound_the_work():
    transform = Counted(SIZE, redraws=3)
    crop(transform, dict(scene(), rare_class=9, rare_class_pixels=10), 0)
    assert transform.tries == 4


def test_images_smaller_than_the_crop_stay_whole():
    transform = RareClassCrop(200)
    asked = dict(scene(), rare_class=5, rare_class_pixels=300)
    assert crop(transform, asked, 0)['img'].shape == (60, 90, 3)


def test_shared_randomness_gives_views_of_one_place():
    transform = RareClassCrop(SIZE)
    asked = dict(scene(), rare_class=5, rare_class_pixels=300)
    with cache_random_params(transform):
        first, second = crop(transform, asked, 0), crop(transform, asked, 1)
    np.testing.assert_array_equal(first['img'], second['img'])
    again = crop(transform, asked, 1)
    assert not np.array_equal(first['img'], again['img'])


@pytest.mark.parametrize(
    'options', [dict(min_crop_ratio=-1), dict(redraws=-1), dict(ignore_index=-1)]
)
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(UserError, match='must not be negative'):
        RareClassCrop(8, **options)
