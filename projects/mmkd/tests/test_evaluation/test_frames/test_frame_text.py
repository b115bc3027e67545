"""Texts of slots: own BLEU-2 and longest common subsequences, several references, intervals."""

import math
from collections import Counter

import numpy as np
import pytest

from mmdistill.core.errors import UserError
from mmkd.evaluation.frames.text import (
    bleu2,
    bootstrap_interval,
    chrf,
    exact,
    mean_over_slots,
    pooled,
    rouge_l,
    score_slots,
    score_texts,
)

WORDS = ['to', 'praise', 'the', 'team', 'for', 'good', 'work']


def own_bleu2(predictions, references):
    """BLEU of corpora of lower-case words: clipped counts, brevity penalty, no smoothing."""
    hits, totals, size, wanted = [0, 0], [0, 0], 0, 0
    for said, row in zip(predictions, references, strict=True):
        words, others = said.split(), [each.split() for each in row]
        size += len(words)
        wanted += min((abs(len(each) - len(words)), len(each)) for each in others)[1]
        for n in (1, 2):
            grams, *of_others = (
                Counter(zip(*(each[k:] for k in range(n)), strict=False))
                for each in (words, *others)
            )
            totals[n - 1] += sum(grams.values())
            most = {g: max(each[g] for each in of_others) for g in grams}
            hits[n - 1] += sum(min(count, most[g]) for g, count in grams.items())
    if not all(hits):
        return 0.0
    brevity = min(1.0, math.exp(1 - wanted / size))
    return brevity * math.sqrt(hits[0] / totals[0] * hits[1] / totals[1])


def own_subsequence(a, b):
    """F measure of the longest common subsequence of words."""
    a, b = a.split(), b.split()
    table = np.zeros((len(a) + 1, len(b) + 1), int)
    for i, first in enumerate(a):
        for j, second in enumerate(b):
            longer = max(table[i, j + 1], table[i + 1, j])
            table[i + 1, j + 1] = table[i, j] + 1 if first == second else longer
    return 2 * table[-1, -1] / (len(a) + len(b))


def corpus(seed, references=1, rows=40):
    """Random predictions and references."""
    rng = np.random.default_rng(seed)

    def draw(low):
        return ' '.join(rng.choice(WORDS, size=rng.integers(low, 9)))

    predictions = [draw(0) for _ in range(rows)]
    numbers = rng.integers(1, references + 1, size=rows)
    return predictions, [[draw(1) for _ in range(number)] for number in numbers]


@pytest.mark.parametrize('references', [1, 3])
@pytest.mark.parametrize('seed', range(10))
def test_bleu_is_that_of_another_implementation(seed, references):
    data = corpus(seed, references)
    wanted = own_bleu2(*data)
    assert wanted > 0
    assert bleu2(*data) == (pytest.approx(wanted, abs=1e-9), False)


@pytest.mark.parametrize('seed', range(3))
def test_rouge_is_the_mean_of_subsequences(seed):
    predictions, references = corpus(seed, 3)
    wanted = [
        max(own_subsequence(said, each) for each in row)
        for said, row in zip(predictions, references, strict=True)
    ]
    assert rouge_l(predictions, references) == pytest.approx(wanted, abs=1e-12)
    found = score_texts(predictions, references)
    assert found.rouge_l == pytest.approx(np.mean(wanted), abs=1e-12) and found.n == 40


def test_rouge_by_hand():
    """``good work`` of 4 and of 3 words: 2 * 2 / 7."""
    assert rouge_l(['a good clean work'], ['good work today']) == pytest.approx([4 / 7])


def test_single_words_have_no_bleu_and_say_so():
    found = score_texts(['praise', 'greeting'], ['praise', 'greeting'])
    assert (found.bleu2, found.degenerate) == (0, True)
    assert found.exact == found.chrf == found.rouge_l == 1
    assert bleu2(['a kind praise'], ['praise']) == (0, True)
    assert bleu2(['praise'], ['a kind praise']) == (0, True)
    assert bleu2(['one two'], ['three four']) == (0, False)


def test_perfect_texts_score_one():
    texts = ['Thanks for the work.', 'A kind greeting, today']
    found = score_texts(texts, texts)
    assert (found.bleu2, found.rouge_l, found.chrf, found.exact) == pytest.approx((1, 1, 1, 1))
    assert not found.degenerate


def test_what_a_prediction_says_beyond_its_reference_counts():
    references = ['thanks for the good work', 'hello to the team']
    scores = [
        score_texts([each + more for each in references], references)
        for more in ('', ' at noon', ' at noon and say hello')
    ]
    for name in ('bleu2', 'rouge_l', 'chrf'):
        values = [getattr(each, name) for each in scores]
        assert values[0] > values[1] > values[2] > 0, name
    assert [each.exact for each in scores] == [1, 0, 0]


def test_exact_knows_neither_case_nor_space():
    said = [' Good\n work ', 'good works', '']
    assert exact(said, [['other', 'good WORK'], 'good work', 'x']).tolist() == [True, False, False]


def test_more_references_never_lower_a_score():
    predictions, references = corpus(5, 3, 30)
    one, all_of = ([row[:n] for row in references] for n in (1, None))
    assert any(len(row) > 1 for row in references)
    assert chrf(predictions, all_of) > chrf(predictions, one)
    assert (rouge_l(predictions, all_of) >= rouge_l(predictions, one)).all()
    assert rouge_l(predictions, all_of).sum() > rouge_l(predictions, one).sum()


def test_references_of_a_statement_are_pooled():
    frames = [dict(intent=each) for each in ('to thank', 'to greet', 'to ask')]
    rows = pooled(['s', 't', 's'], frames)
    assert rows == [[frames[0], frames[2]], [frames[1]], [frames[0], frames[2]]]
    # who says the same twice is right by one of the two
    same = [dict(intent='to thank'), dict(intent='to greet'), dict(intent='to thank')]
    assert score_slots(same, [[each] for each in frames], ['intent'])['intent'].exact == 2 / 3
    assert score_slots(same, rows, ['intent'])['intent'].exact == 1


def test_slots_have_their_own_scores_and_rows():
    references = [
        [dict(intent='to thank them', power='none', other='')],
        [dict(intent='to greet them', power=' ', other='')],
    ]
    predictions = [dict(intent='to thank them', power='none', other='x')] * 2
    found = score_slots(predictions, references, ['intent', 'power', 'other'])
    assert list(found) == ['intent', 'power']
    assert (found['intent'].n, found['intent'].exact) == (2, 0.5)
    assert (found['power'].n, found['power'].exact, found['power'].degenerate) == (1, 1, True)
    mean = mean_over_slots(found)
    assert mean['exact'] == 0.75
    assert mean['bleu2'] == found['intent'].bleu2 / 2


def test_errors_are_not_scores(monkeypatch):
    def fail(*args):
        raise RuntimeError('broken')

    with monkeypatch.context() as patch:
        patch.setattr('sacrebleu.metrics.BLEU.corpus_score', fail)
        with pytest.raises(RuntimeError, match='broken'):
            score_texts(['a b'], ['a b'])
    with pytest.raises(UserError, match='2 predictions and 1 references'):
        score_texts(['a', 'b'], ['a'])
    with pytest.raises(UserError, match='0 predictions'):
        score_texts([], [])
    with pytest.raises(UserError, match='row 1 has no reference'):
        score_texts(['a', 'b'], ['a', [' ', '']])


def test_bootstrap_intervals():
    """Of a mean: those of the normal distribution, the same for the same seed."""
    values = np.random.default_rng(0).normal(5, 2, 400)

    def mean(rows):
        return values[rows].mean()

    found = bootstrap_interval(mean, 400)
    assert found == bootstrap_interval(mean, 400) != bootstrap_interval(mean, 400, seed=1)
    half = 1.96 * values.std() / 20
    assert found == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)
    low, high = bootstrap_interval(mean, 400, level=0.5)
    assert found[0] < low < values.mean() < high < found[1]
