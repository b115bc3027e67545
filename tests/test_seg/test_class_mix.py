"""ClassMix pastes what a loop over classes and pixels pastes, each set of classes alike."""

import itertools
from collections import Counter
from math import comb

import pytest
import torch
from no_wait import NoWait
from pixel_cases import class_mix_by_loops, labels_of, uniform

from mmdistill.core.errors import UserError
from mmdistill.registry import TASK_UTILS
from mmdistill.seg.class_mix import ClassMix, class_mask, draw_half, mix, present_classes


@pytest.mark.parametrize('scope', ['image', 'batch'])
@pytest.mark.parametrize('include_ignore', [True, False])
@pytest.mark.parametrize('classes', [1, 2, 5, 19])
def test_masks_are_those_of_the_loops(scope, include_ignore, classes):
    for seed in range(5):
        labels = labels_of(3, 24, 20, classes=classes, seed=seed)
        numbers = uniform(3, 256, seed=seed)
        mixer = ClassMix(scope, include_ignore)
        expected = class_mix_by_loops(labels, numbers, scope, include_ignore)
        assert torch.equal(mixer(labels, numbers), expected)
        assert torch.equal(mixer(labels[:, None].to(torch.uint8), numbers), expected)


def test_presence_of_classes():
    labels = torch.tensor([[[0, 255], [3, 3]], [[1, 1], [1, 1]]])
    found = present_classes(labels)
    assert found.shape == (2, 256)
    assert [row.nonzero().flatten().tolist() for row in found] == [[0, 3, 255], [1]]


@pytest.mark.parametrize('count', range(1, 9))
def test_half_of_the_classes_rounded_up(count):
    """Fact 22."""
    present = torch.zeros(50, 12, dtype=torch.bool)
    present[:, torch.randperm(12, generator=torch.Generator().manual_seed(count))[:count]] = True
    chosen = draw_half(present, uniform(50, 12))
    assert (chosen.sum(1) == (count + 1) // 2).all() and not (chosen & ~present).any()


def test_no_class_no_choice():
    assert not draw_half(torch.zeros(1, 4, dtype=torch.bool), uniform(1, 4)).any()


def test_all_sets_of_classes_are_equally_likely():
    """5 of 9 labels present: each of the C(5, 3) sets in a tenth of the draws."""
    present = torch.zeros(9, dtype=torch.bool)
    present[[0, 2, 3, 5, 8]] = True
    chosen = draw_half(present.expand(20000, 9), uniform(20000, 9, seed=1))
    sets = Counter(tuple(row.nonzero().flatten().tolist()) for row in chosen)
    assert set(sets) == set(itertools.combinations([0, 2, 3, 5, 8], 3))
    spread = (20000 * 0.1 * 0.9) ** 0.5
    assert all(abs(n - 20000 / comb(5, 3)) < 4 * spread for n in sets.values())


def test_numbers_of_the_class_draw_alike():
    """Class 7 of 3 present ones is chosen in two thirds of the draws."""
    labels = torch.tensor([1, 7, 255]).view(1, 1, 3).expand(6000, 1, 3)
    mask = ClassMix()(labels, generator=torch.Generator().manual_seed(0))
    share = mask.double().mean((0, 1, 2))
    assert (share - 2 / 3).abs().max() < 4 * (2 / 9 / 6000) ** 0.5


def test_scopes_differ_as_documented():
    """One class per image: the image's own is always drawn, of the batch's two only one is."""
    labels = torch.tensor([0, 1]).view(2, 1, 1).expand(2, 4, 4)
    for seed in range(20):
        numbers = uniform(2, 256, seed=seed)
        assert ClassMix('image')(labels, numbers).all()
        first, second = ClassMix('batch')(labels, numbers).flatten(1).double().mean(1).tolist()
        assert first == (numbers[0, 0] < numbers[0, 1])
        assert second == (numbers[1, 1] < numbers[1, 0])


def test_ignored_pixels_are_pasted_only_where_asked():
    labels = torch.full((1, 2, 2), 255)
    numbers = uniform(1, 256)
    assert ClassMix(include_ignore=True)(labels, numbers).all()
    assert not ClassMix(include_ignore=False)(labels, numbers).any()
    void = torch.tensor([[[0, 4]]])
    assert ClassMix(include_ignore=False, ignore_index=0)(void, numbers).tolist() == [
        [[[False, True]]]
    ]


def test_reordered_images_reorder_the_masks():
    labels, numbers = labels_of(4, 8, 8), uniform(4, 256)
    order = torch.tensor([3, 1, 0, 2])
    for scope in ('image', 'batch'):
        mask = ClassMix(scope)(labels, numbers)
        assert torch.equal(ClassMix(scope)(labels[order], numbers[order]), mask[order])


def test_mixing_selects_pixel_by_pixel():
    """Fact 21: labels, weights and images come bit for bit from one side or the other."""
    mask = uniform(2, 1, 4, 5) < 0.5
    source, target = uniform(2, 3, 4, 5, seed=1), uniform(2, 3, 4, 5, seed=2)
    labels, pseudo = labels_of(2, 4, 5, seed=3), labels_of(2, 4, 5, seed=4)
    weight = torch.full((2, 4, 5), 0.25)
    image, label, weights = mix(mask, source, target), mix(mask, labels, pseudo), None
    weights = mix(mask, 1.0, weight)
    inside = mask[:, 0]
    for c in range(3):
        assert torch.equal(image[:, c][inside], source[:, c][inside])
        assert torch.equal(image[:, c][~inside], target[:, c][~inside])
    assert torch.equal(label[inside], labels[inside]) and label.dtype == torch.long
    assert torch.equal(label[~inside], pseudo[~inside])
    assert weights[inside].eq(1).all() and weights[~inside].eq(0.25).all()
    assert torch.equal(weights, mix(mask, torch.ones(2, 4, 5), weight))


def test_full_and_empty_masks_give_one_side():
    source, target = uniform(2, 3, 4, 5), uniform(2, 3, 4, 5, seed=1)
    full = torch.ones(2, 1, 4, 5, dtype=torch.bool)
    kept = target.clone()
    assert torch.equal(mix(full, source, target), source)
    assert torch.equal(mix(~full, source, target), target)
    mix(full, source, target).zero_()
    assert torch.equal(target, kept)


def test_batches_that_do_not_fit_are_refused():
    mask = torch.ones(2, 1, 4, 4, dtype=torch.bool)
    for source, target in (((3, 3, 4, 4), (2, 3, 4, 4)), ((2, 3, 4, 4), (2, 3, 4, 6))):
        with pytest.raises(UserError, match='as many images'):
            mix(mask, torch.zeros(source), torch.zeros(target))
    with pytest.raises(UserError, match='mask'):
        mix(mask[:1], torch.zeros(2, 4, 4), torch.zeros(2, 4, 4))


def test_no_step_waits_for_the_device():
    labels, weight = labels_of(2, 8, 8), uniform(2, 8, 8)
    with NoWait():
        for scope in ('image', 'batch'):
            mask = ClassMix(scope, include_ignore=False)(labels)
            mix(mask, labels, labels.flip(0)), mix(mask, 1.0, weight)
    assert mask.any()


def test_it_is_built_from_configs_and_refuses_bad_ones():
    built = TASK_UTILS.build(dict(type='mmdistill.ClassMix', scope='batch'))
    assert built.numbers(3).shape == (3, 256) and built.include_ignore
    with pytest.raises(UserError, match='pixel'):
        ClassMix('pixel')
    with pytest.raises(UserError, match='255'):
        ClassMix(num_labels=19)
    with pytest.raises(TypeError, match='classes'):
        TASK_UTILS.build(dict(type='mmdistill.ClassMix', classes=3))


def test_a_mask_by_hand():
    chosen = torch.zeros(1, 4, dtype=torch.bool)
    chosen[0, 2] = True
    labels = torch.tensor([[[2, 0], [1, 2]]])
    assert class_mask(labels, chosen).tolist() == [[[[True, False], [False, True]]]]
