"""Multiple choice: accuracy by parser and task, what cannot be read, ranks."""

import pytest

from mmdistill.core.errors import UserError
from mmdistill.testing import run_gloo
from mmkd.evaluation.language.multiple_choice import MultipleChoiceMetric

LABELS = ('A', 'B', 'C')


def sample(response, target, task='one', **more):
    """A sample."""
    return dict(response=response, labels=LABELS, target=target, task=task, **more)


SAMPLES = [
    sample('Based on it, the answer is C', 'C', loglik=[-3.0, -2.0, -1.0]),
    sample('(A)', 'A', loglik=[-3.0, -2.0, -9.0]),
    sample('nothing', 'A', loglik=[-1.0, -2.0, -9.0]),
    sample('B.', 'B', loglik=[-1.0, -0.5, -9.0]),
    sample('All right', 'B', 'two', loglik=[-1.0, -1.0, -9.0]),
    dict(response='The answer is 8.', labels=(), target='8', task='three'),
    dict(response='two\nlines', labels=(), target='8', task='three'),
]
EXPECTED = {
    'first_capital/one': 50,
    'first_capital/two': 0,
    'first_capital/mean': 25,
    'first_capital/unparsed': 20,
    'anchored/one': 75,
    'anchored/two': 0,
    'anchored/mean': 37.5,
    'anchored/unparsed': 40,
    'loglik/one': 75,
    'loglik/two': 0,
    'loglik/mean': 37.5,
    'loglik/unparsed': 0,
    'free_text/three': 50,
    'free_text/mean': 50,
    'free_text/unparsed': 50,
    'answer/one': 75,
    'answer/two': 0,
    'answer/three': 50,
    'answer/mean': 125 / 3,
    'answer/unparsed': 300 / 7,
    'format_penalty': 12.5,
    'n/one': 4,
    'n/two': 1,
    'n/three': 2,
}


def scored(samples):
    """Scores."""
    metric = MultipleChoiceMetric()
    metric.process(None, samples)
    return metric.evaluate(len(samples))


def test_scores():
    assert scored(SAMPLES) == pytest.approx(EXPECTED)
    assert scored(SAMPLES[::-1]) == pytest.approx(EXPECTED)


def test_without_log_likelihoods_there_are_none_of_them():
    found = scored([sample('A', 'A')])
    assert not [name for name in found if 'loglik' in name or 'free' in name]
    assert found['format_penalty'] == 0 and found['n/one'] == 1


def test_a_target_that_is_no_label_is_never_right():
    found = scored([sample('A', 'Monsters, Inc')])
    assert found['anchored/one'] == found['first_capital/one'] == 0
    assert found['anchored/unparsed'] == 0


def test_log_likelihoods_are_one_for_each_label():
    with pytest.raises(UserError, match='one: 2 log-likelihoods of 3 labels'):
        scored([sample('A', 'A', loglik=[0, 1])])


def on_rank(rank):
    """Scores of every second sample on each of two ranks, the last of them twice."""
    metric = MultipleChoiceMetric()
    metric.process(None, (SAMPLES + SAMPLES[:1])[rank::2])
    return metric.evaluate(len(SAMPLES))


def test_ranks_agree_with_one_process():
    for found in run_gloo(on_rank, 2):
        assert found == pytest.approx(EXPECTED)
