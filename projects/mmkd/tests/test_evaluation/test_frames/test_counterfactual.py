"""Verdicts by row and by pair: scikit-learn's scores, pairing by id, who ignores contexts."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from mmdistill.core.errors import UserError
from mmkd.evaluation.frames.counterfactual import Judged, by_column, pair_scores, row_scores


def drawn(seed, n=60):
    """Random rows, two of each pair."""
    rng = np.random.default_rng(seed)
    return [
        Judged(
            [-1, None, 0, 0, 1, 1, 1][rng.integers(7)], [None, 0, 1][rng.integers(3)], str(k // 2)
        )
        for k in range(n)
    ]


@pytest.mark.parametrize('seed', range(5))
def test_rows_are_scored_like_scikit_learn(seed):
    rows = drawn(seed)
    kept = [row for row in rows if row.label in (0, 1)]
    labels = [row.label for row in kept]
    found = [{None: 1 - row.label}.get(row.prediction, row.prediction) for row in kept]
    scores = row_scores(rows)
    precision, recall, f1, _ = precision_recall_fscore_support(labels, found, average='binary')
    wanted = dict(
        n=len(kept),
        excluded=60 - len(kept),
        accuracy=accuracy_score(labels, found),
        precision=precision,
        recall=recall,
        f1=f1,
        coverage=np.mean([row.prediction is not None for row in kept]),
        majority=max(np.bincount(labels)) / len(kept),
    )
    assert scores == pytest.approx(wanted, abs=1e-12)
    assert scores['excluded'] > 0 and 0 < scores['coverage'] < 1


def test_excluded_rows_do_not_matter():
    rows = drawn(0)
    kept = [row for row in rows if row.counts]
    scores = {**row_scores(rows), 'excluded': 0}
    assert scores == row_scores(kept)
    assert row_scores([Judged(-1, 1), Judged(None, 0)]) == dict(n=0, excluded=2)
    # no one is called offensive, and no one is
    none = row_scores([Judged(0, 0)])
    assert none['precision'] == none['recall'] == none['f1'] == 0
    assert none['accuracy'] == none['majority'] == 1


PAIRS = [
    ('a', (0, 0), (1, 1)),
    ('b', (0, 1), (1, 0)),
    ('c', (0, 1), (1, 1)),
    ('d', (1, 0), (0, 0)),
    ('e', (1, None), (0, 0)),
    ('f', (0, None), (1, None)),
    ('g', (0, None), (1, 0)),
    ('h', (0, 0), (1, 1)),
    ('same', (1, 1), (1, 1)),
    ('differ', (-1, 0), (1, 1)),
    ('asked', (0, 0), (None, 1)),
]


def rows_of(pairs):
    """Rows: those of the first sides, then those of the second ones."""
    return [Judged(*each[side], each[0]) for side in (1, 2) for each in pairs]


def test_pairs_by_hand():
    rows = [*rows_of(PAIRS), Judged(1, 1, 'alone'), Judged(1, 1)]
    assert pair_scores(rows) == dict(
        pairs=8,
        incomplete=3,
        same_label=1,
        pair_accuracy=2 / 8,
        one_sided=3 / 8,
        both_wrong=3 / 8,
        flip=3 / 8,
        always_same=2 / 8,
        abstained=3 / 8,
    )


@pytest.mark.parametrize('seed', range(4))
def test_pairs_survive_shuffling_and_filtering(seed):
    rng = np.random.default_rng(seed)
    rows = rows_of(PAIRS)
    shuffled = [rows[k] for k in rng.permutation(len(rows))]
    assert pair_scores(shuffled) == pair_scores(rows)
    assert row_scores(shuffled) == pytest.approx(row_scores(rows))
    # without the first side of pair b the others are as they were
    kept = [row for row in shuffled if (row.pair_id, row.label) != ('b', 0)]
    rest = pair_scores(rows_of([each for each in PAIRS if each[0] != 'b']))
    assert pair_scores(kept) == {**rest, 'incomplete': rest['incomplete'] + 1}


@pytest.mark.parametrize('seed', range(5))
def test_who_ignores_contexts_gets_half_of_the_rows_and_no_pair(seed):
    rng = np.random.default_rng(seed)
    said = rng.integers(2, size=37)
    order = rng.permutation(74)
    rows = [Judged(k % 2, int(said[k // 2]), f'pair {k // 2}') for k in order]
    assert row_scores(rows)['accuracy'] == 0.5
    found = pair_scores(rows)
    assert (found['pairs'], found['pair_accuracy'], found['flip']) == (37, 0, 0)
    assert found['always_same'] == found['one_sided'] == 1


def test_who_reads_contexts_gets_all():
    rows = [Judged(k % 2, k % 2, str(k // 2)) for k in range(20)]
    found = pair_scores(rows)
    assert row_scores(rows)['accuracy'] == found['pair_accuracy'] == found['flip'] == 1
    assert found['one_sided'] == found['always_same'] == 0


def test_shares_sum_to_one():
    found = pair_scores(drawn(3, 400))
    assert found['pairs'] + found['incomplete'] + found['same_label'] == 200
    assert sum(found[k] for k in ('pair_accuracy', 'one_sided', 'both_wrong')) == pytest.approx(1)
    assert sum(found[k] for k in ('flip', 'always_same', 'abstained')) == pytest.approx(1)


def test_both_columns():
    labels = dict(label_majority=[0, 1, 0, 1], label_all=[0, 1, -1, 1])
    found = by_column(labels, [0, 1, 1, 1], ['a', 'a', 'b', 'b'])
    assert found['label_majority']['accuracy'] == 0.75
    assert found['label_majority']['pairs'] == 2 and found['label_majority']['flip'] == 0.5
    assert found['label_all']['accuracy'] == 1 and found['label_all']['excluded'] == 1
    assert found['label_all']['pairs'] == found['label_all']['incomplete'] == 1


def test_errors():
    with pytest.raises(UserError, match='pair p has 3 rows'):
        pair_scores([Judged(0, 0, 'p')] * 3)
    with pytest.raises(UserError, match='pair p: label 2'):
        Judged(2, 0, 'p')
    with pytest.raises(UserError, match='prediction -1'):
        Judged(1, -1)
