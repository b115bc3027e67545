"""Scores equal those of scikit-learn and scipy; undefined ones are 0."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics

from mmdistill.core.errors import UserError
from mmkd.evaluation import scores
from mmkd.evaluation.metric import ClassificationMetric


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('classes', [2, 3, 5])
def test_classes(seed, classes):
    draw = np.random.default_rng(seed)
    labels, found = draw.integers(classes, size=(2, 200))
    found = np.where(draw.random(200) < 0.4, labels, found)
    assert scores.accuracy(labels, found) == pytest.approx(metrics.accuracy_score(labels, found))
    assert scores.matthews(labels, found) == pytest.approx(metrics.matthews_corrcoef(labels, found))
    if classes == 2:
        assert scores.f1(labels, found) == pytest.approx(metrics.f1_score(labels, found))


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('steps', [3, 10_000])
def test_values_with_and_without_ties(seed, steps):
    draw = np.random.default_rng(seed)
    labels = draw.integers(steps, size=100) / steps
    found = labels + draw.integers(steps, size=100) / steps
    assert scores.pearson(labels, found) == pytest.approx(stats.pearsonr(labels, found)[0])
    assert scores.spearman(labels, found) == pytest.approx(stats.spearmanr(labels, found)[0])


def test_what_is_undefined_is_zero():
    ones, both = np.ones(4, int), np.array([0, 1, 0, 1])
    assert scores.matthews(both, ones) == scores.matthews(ones, both) == 0
    assert scores.f1(np.zeros(4, int), np.zeros(4, int)) == 0
    assert scores.pearson(both, ones) == scores.spearman(ones, both) == 0


def test_the_metric_is_in_percent_and_has_a_mean():
    metric = ClassificationMetric(['accuracy', 'f1'])
    logits = torch.tensor([[2.0, 1], [0, 1], [3, 1], [0, 2]])
    for row, label in zip(logits, (0, 1, 1, 1), strict=True):
        metric.process(None, [dict(logits=row, label=torch.tensor(label))])
    found = metric.evaluate(4)
    assert found == dict(accuracy=75.0, f1=pytest.approx(80.0), mean=pytest.approx(77.5))
    values = ClassificationMetric(['pearson'])
    for value in (0.0, 1.0, 4.0):
        values.process(None, [dict(logits=torch.tensor([2 * value + 1]), label=value)])
    assert values.evaluate(3) == dict(pearson=pytest.approx(100.0))


def test_wrong_metrics_and_missing_labels_say_so():
    with pytest.raises(UserError, match="metric 'acuracy' is not known .did you mean 'accuracy'"):
        ClassificationMetric(['acuracy'])
    with pytest.raises(UserError, match='of classes or of values'):
        ClassificationMetric(['mcc', 'pearson'])
    with pytest.raises(UserError, match='needs labels'):
        ClassificationMetric().process(None, [dict(logits=torch.zeros(2), label=None)])
