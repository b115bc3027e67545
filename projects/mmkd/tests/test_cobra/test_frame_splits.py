"""Splits: the official one, and one that keeps statements together."""

import random
from collections import Counter

import pytest
from frame_table_cases import frame

from mmdistill.core.errors import UserError
from mmkd.cobra.tables.splits import grouped_split, official_split, straddling


def corpus(statements=400, contexts=3, offensive=0.9, seed=0):
    """Statements in several contexts with labels of a binarizer that are drawn one by one."""
    draw = random.Random(seed)
    return [
        frame(n, k, offensive_bin=int(draw.random() < offensive), frame_id=f'{n}.{k}')
        for n in range(statements)
        for k in range(contexts)
    ]


def sides(frames):
    """Split of each frame by its id."""
    return {each.frame_id: each.split for each in frames}


def splits_of_statements(frames):
    """All splits of each statement."""
    found = {}
    for each in frames:
        found.setdefault(each.statement_id, set()).add(each.split)
    return found


def share(frames, value, split=None):
    """Of frames with this label."""
    own = [each for each in frames if split in (None, each.split)]
    return sum(each.offensive_bin == value for each in own) / len(own)


@pytest.mark.parametrize('count', [1001, 1500, 3002])
def test_the_official_validation_set_is_the_last_thousand(count):
    """Whatever it holds; nothing else changes."""
    frames = corpus(1001)[:count]
    split = official_split(frames)
    assert [each.split for each in split] == ['train'] * (count - 1000) + ['val'] * 1000
    assert [each.model_copy(update=dict(split='')) for each in split] == frames


def test_only_the_statement_at_the_boundary_is_on_both_sides():
    """Rows of one statement are neighbours; 2000 is no multiple of 3, 2001 is."""
    frames = corpus(1001)
    assert straddling(official_split(frames[:3000])) == 1  # 2000 = 3 * 666 + 2
    assert straddling(official_split(frames[:3001])) == 0
    assert straddling(frames) == 0


@pytest.mark.parametrize('count', [0, 1000])
def test_a_corpus_that_is_too_small(count):
    """Nothing would be left to train on."""
    with pytest.raises(UserError, match=f'at least 1001, got {count}'):
        official_split(corpus(334)[:count])


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize(
    'fractions', [dict(train=0.9, val=0.1), dict(train=0.6, val=0.15, test=0.25)]
)
def test_statements_stay_together_and_shares_stay_alike(fractions, seed):
    """Sizes and shares of both labels within 2 %."""
    frames = corpus(seed=seed)
    split = grouped_split(frames, fractions, seed)
    assert all(len(found) == 1 for found in splits_of_statements(split).values())
    assert straddling(split) == 0
    sizes = Counter(each.split for each in split)
    for name, fraction in fractions.items():
        assert abs(sizes[name] / len(split) - fraction) <= 0.02
        assert abs(share(split, 1, name) - share(frames, 1)) <= 0.02
    assert [each.model_copy(update=dict(split='')) for each in split] == frames


def test_statements_of_different_sizes():
    """From one context to nine; large ones are not all on one side."""
    draw = random.Random(1)
    frames = [
        frame(n, k, offensive_bin=int(draw.random() < 0.8))
        for n in range(300)
        for k in range(draw.choice([1, 1, 2, 3, 9]))
    ]
    split = grouped_split(frames, seed=5)
    assert straddling(split) == 0
    val = [each for each in split if each.split == 'val']
    assert abs(len(val) / len(frames) - 0.1) <= 0.02
    assert abs(share(split, 1, 'val') - share(frames, 1)) <= 0.02
    large = [key for key, n in Counter(f.statement_id for f in frames).items() if n == 9]
    own = {each.statement_id for each in val} & set(large)
    assert abs(len(own) / len(large) - 0.1) <= 0.04


def test_frames_are_counted_and_not_statements():
    """One statement of nine frames balances nine of one."""
    frames = [frame(0, k) for k in range(9)] + [frame(n) for n in range(1, 10)]
    split = grouped_split(frames, dict(train=0.5, val=0.5), stratify=None)
    assert Counter(each.split for each in split) == dict(train=9, val=9)


def test_without_strata_shares_are_those_of_chance():
    """The control: labels that sort statements are balanced by strata, and not by sizes alone."""
    frames = corpus(60, 2, 0.5)
    spread = {
        field: max(
            abs(share(grouped_split(frames, seed=s, stratify=field), 1, 'val') - share(frames, 1))
            for s in range(20)
        )
        for field in ('offensive_bin', None)
    }
    assert spread['offensive_bin'] <= 0.05 < 0.1 < spread[None]


def test_the_seed_decides_and_the_order_of_rows_does_not():
    """Nor does the order in which splits are named."""
    frames = corpus(100)
    first = sides(grouped_split(frames, seed=1))
    shuffled = frames[:]
    random.Random(0).shuffle(shuffled)
    again = grouped_split(shuffled, dict(val=0.1, train=0.9), 1)
    assert sides(again) == first
    assert [each.frame_id for each in again] == [each.frame_id for each in shuffled]
    other = sides(grouped_split(frames, seed=2))
    val = {key for key, split in first.items() if split == 'val'}
    assert val != {key for key, split in other.items() if split == 'val'}


def test_every_statement_can_be_in_the_validation_set():
    """Neither the first nor the last by any order are kept out of it."""
    frames = corpus(20, 1, 1.0)
    seen = set()
    for seed in range(80):
        seen |= {k for k, v in sides(grouped_split(frames, seed=seed)).items() if v == 'val'}
    assert seen == {each.frame_id for each in frames}


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (dict(fractions=dict(train=0.9, val=0.2)), 'fractions: must have sum 1, got 1.1'),
        (dict(fractions={}), 'fractions: must have sum 1, got 0'),
        (dict(fractions=dict(train=1.0, val=0.0)), 'fractions: val must be above 0, got 0.0'),
        (dict(fractions=dict(train=float('nan'))), 'fractions: train must be above 0, got nan'),
        (dict(stratify='grupo'), r"got 'grupo' \(did you mean 'group'\?\)"),
        (dict(stratify='label_all'), 'no frame has label_all; fill it first'),
        (dict(fractions=dict(train=0.99, val=0.01)), '4 statements leave nothing for val'),
    ],
)
def test_what_cannot_be_split(options, said):
    """Options, and too few statements."""
    with pytest.raises(UserError, match=said):
        grouped_split(corpus(4), **options)


def test_frames_without_a_label_are_a_stratum_of_their_own():
    """As long as some have one."""
    frames = [
        each.model_copy(update=dict(offensive_bin=None)) if n % 2 else each
        for n, each in enumerate(corpus(200, 1))
    ]
    split = grouped_split(frames)
    assert abs(share(split, None, 'val') - 0.5) <= 0.05
