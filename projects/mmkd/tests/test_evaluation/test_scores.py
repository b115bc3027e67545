"""Scores equal those of scikit-learn and scipy; undefined ones are 0."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import softmax
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


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('classes', [2, 3, 7])
@pytest.mark.parametrize('steps', [2, 1024])
def test_probabilities_with_and_without_ties(seed, classes, steps):
    draw = np.random.default_rng(seed)
    labels = draw.integers(classes, size=200)
    logits = draw.integers(-steps, steps, (200, classes)) * (2 / steps)
    logits[np.arange(200), labels] += 0.5
    chances = softmax(logits, 1)
    given = logits[:, 1] - logits[:, 0] if classes == 2 else chances
    area = metrics.roc_auc_score(labels, given, multi_class='ovr')
    assert scores.auc(labels, logits) == pytest.approx(area, abs=1e-12)
    loss = metrics.log_loss(labels, chances)
    assert scores.logloss(labels, logits) == pytest.approx(loss, abs=1e-12)
    if steps > 2:
        logits += draw.random(logits.shape) / 10_000
        best = metrics.top_k_accuracy_score(labels, logits, k=5) if classes > 5 else 1
        assert scores.top5(labels, logits) == pytest.approx(best)


def test_logits_of_any_size_and_shift_are_scored():
    labels = np.array([0, 1, 1])
    logits = np.array([[1e4, 0], [0, 2e4], [1e4, 0]])
    assert scores.logloss(labels, logits) == pytest.approx(1e4 / 3)
    assert scores.logloss(labels, logits + 1e5) == pytest.approx(1e4 / 3)
    # two of four pairs are in order, one is equal, counted as half: 1 - 0 of 2
    assert scores.auc(labels, logits) == pytest.approx(0.75)
    assert scores.auc(labels, np.array([[60, 0], [0, 40], [0, 60.0]])) == 1


def test_classes_without_samples_do_not_enter_the_area():
    draw = np.random.default_rng(0)
    labels, logits = draw.integers(2, size=50), draw.normal(size=(50, 3))
    chances = softmax(logits, 1)
    wanted = [metrics.roc_auc_score(labels == n, chances[:, n]) for n in (0, 1)]
    assert scores.auc(labels, logits) == pytest.approx(np.mean(wanted))
    assert scores.auc(np.ones(4, int), np.zeros((4, 2))) == 0


def test_top5_of_equal_and_broken_logits():
    labels = np.arange(8)
    assert scores.top5(labels, np.zeros((8, 8))) == 5 / 8
    assert scores.top5(labels, np.full((8, 8), np.nan)) == 0
    assert np.isnan(scores.auc(labels, np.full((8, 8), np.nan)))
    # another class first, then equal ones in their order: classes 0 to 3 are among five
    one = np.eye(8)[(labels + 1) % 8]
    assert scores.accuracy(labels, one.argmax(1)) == 0 and scores.top5(labels, one) == 4 / 8


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


def test_metrics_of_logits_are_kept_apart_from_the_mean():
    draw = np.random.default_rng(0)
    labels, logits = draw.integers(7, size=60), draw.normal(size=(60, 7)).astype(np.float32)
    names = ['accuracy', 'top5', 'auc', 'logloss']
    metric = ClassificationMetric(names)
    for row, label in zip(logits, labels, strict=True):
        metric.process(None, [dict(logits=torch.from_numpy(row), label=torch.tensor(label))])
    found = metric.evaluate(60)
    assert list(found) == names
    exact = logits.astype(float)
    assert found['logloss'] == pytest.approx(scores.logloss(labels, exact))
    assert found['auc'] == pytest.approx(100 * scores.auc(labels, exact))
    assert found['accuracy'] < found['top5'] < 100
    assert found['top5'] == pytest.approx(100 * scores.top5(labels, exact))
    assert found['accuracy'] == pytest.approx(100 * (exact.argmax(1) == labels).mean())


def test_logits_are_kept_only_where_they_are_needed():
    for names, kept in ((['accuracy', 'f1'], False), (['accuracy', 'auc'], True)):
        metric = ClassificationMetric(names)
        metric.process(None, [dict(logits=torch.ones(3), label=torch.tensor(1))])
        assert any(isinstance(each, np.ndarray) for each in metric.results[0]) == kept


def test_wrong_metrics_and_missing_labels_say_so():
    with pytest.raises(UserError, match="metric 'acuracy' is not known .did you mean 'accuracy'"):
        ClassificationMetric(['acuracy'])
    with pytest.raises(UserError, match='of classes or of values'):
        ClassificationMetric(['mcc', 'pearson'])
    with pytest.raises(UserError, match='of classes or of values'):
        ClassificationMetric(['logloss', 'pearson'])
    with pytest.raises(UserError, match='need the logits of two classes or more, got one output'):
        ClassificationMetric(['auc']).process(None, [dict(logits=torch.zeros(1), label=1)])
    with pytest.raises(UserError, match='needs labels'):
        ClassificationMetric().process(None, [dict(logits=torch.zeros(2), label=None)])
