"""Differences of frames of one statement from context to context; scores per group."""

import numpy as np
import pytest

from mmdistill.core.errors import UserError
from mmkd.evaluation.frames.groups import scores_by_group
from mmkd.evaluation.frames.sensitivity import (
    chrf_similarity,
    context_sensitivity,
    statement_differences,
)

SLOTS = ('intent', 'power')
FRAMES = [
    dict(intent='to thank', power='equals'),
    dict(intent='to greet', power='equals'),
    dict(intent='to thank', power='a manager'),
    dict(intent='to ask', power=''),
    dict(intent='to ask', power=''),
    dict(intent='alone', power='alone'),
]
IDS = ['s', 't', 's', 'u', 'u', 'v']


def shared(first, second):
    """Share of words."""
    a, b = set(first.split()), set(second.split())
    return len(a & b) / len(a | b)


def test_differences_by_hand():
    """Intents of ``s`` are equal, powers share no word; ``u`` says the same, ``t`` is alone."""
    assert statement_differences(FRAMES, IDS, SLOTS, shared) == dict(s=0.5, u=0)
    assert statement_differences(FRAMES, IDS, ['power'], shared) == dict(s=1, u=0)
    three = [dict(a='x y'), dict(a='x z'), dict(a='w')]
    # shares are 1/3, 0 and 0
    assert statement_differences(three, ['s'] * 3, ['a'], shared)['s'] == pytest.approx(8 / 9)


def test_who_ignores_contexts_differs_by_nothing():
    same = dict(zip(IDS, FRAMES, strict=True))
    found = context_sensitivity([same[key] for key in IDS], FRAMES, IDS, SLOTS)
    assert found['predicted'] == 0 < found['reference'] == -found['gap']
    assert found['statements'] == 2
    copied = context_sensitivity(FRAMES, FRAMES, IDS, SLOTS)
    assert copied['gap'] == 0 and copied['predicted'] == found['reference']


def test_order_of_rows_does_not_matter():
    order = np.random.default_rng(0).permutation(len(IDS))
    mixed = statement_differences([FRAMES[k] for k in order], [IDS[k] for k in order], SLOTS)
    assert mixed == pytest.approx(statement_differences(FRAMES, IDS, SLOTS))


def test_similarity():
    assert chrf_similarity('well done', 'well done') == pytest.approx(1)
    assert chrf_similarity('abc', 'xyz') == 0
    one, other = 'thanks', 'thanks for all of the work'
    assert 0 < chrf_similarity(one, other) < 1
    assert chrf_similarity(one, other) == pytest.approx(chrf_similarity(other, one))


def test_one_frame_per_statement_is_not_enough():
    with pytest.raises(UserError, match='two frames or more'):
        context_sensitivity(FRAMES[:2], FRAMES[:2], IDS[:2], SLOTS)


def test_small_groups_are_only_counted():
    groups = ['b'] * 3 + [None] + ['a'] * 2 + ['b', ' ']
    values = np.arange(8.0)

    def score(rows):
        return dict(mean=values[rows].mean())

    assert scores_by_group(groups, score, 3) == {'a': dict(n=2), 'b': dict(n=4, mean=2.25)}
    assert scores_by_group(groups, score) == {'a': dict(n=2), 'b': dict(n=4)}
    assert scores_by_group(['a'] * 50, lambda rows: dict(x=len(rows))) == {'a': dict(n=50, x=50)}
