"""Scores as functions of labels and predictions or logits; undefined ones are 0.

All are in [-1, 1] or [0, 1], except :func:`logloss`.
"""

from __future__ import annotations

import numpy as np


def accuracy(labels: np.ndarray, found: np.ndarray) -> float:
    """Share of samples with the right class."""
    return float((labels == found).mean())


def f1(labels: np.ndarray, found: np.ndarray) -> float:
    """Harmonic mean of precision and recall of class 1."""
    right = int(((labels == 1) & (found == 1)).sum())
    total = int((labels == 1).sum() + (found == 1).sum())
    return 2 * right / total if total else 0.0


def matthews(labels: np.ndarray, found: np.ndarray) -> float:
    """Matthews correlation of classes, for any number of them."""
    size = int(max(labels.max(), found.max())) + 1
    table = np.zeros((size, size))
    np.add.at(table, (labels, found), 1)
    true, guessed, count = table.sum(1), table.sum(0), len(labels)
    spread = (count**2 - (true**2).sum()) * (count**2 - (guessed**2).sum())
    if spread == 0:
        return 0.0
    return float((np.trace(table) * count - true @ guessed) / np.sqrt(spread))


def pearson(labels: np.ndarray, found: np.ndarray) -> float:
    """Linear correlation of values."""
    a, b = (np.asarray(each, float) - np.mean(each, dtype=float) for each in (labels, found))
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size else 0.0


def spearman(labels: np.ndarray, found: np.ndarray) -> float:
    """Correlation of ranks; equal values share the mean of their ranks."""
    return pearson(_ranks(labels), _ranks(found))


def top5(labels: np.ndarray, logits: np.ndarray) -> float:
    """Share of samples whose class is among the five with the largest logits.

    Args:
        labels: classes ``(N,)``.
        logits: ``(N, C)``; of equal ones the first counts as larger, as arg max has it.
    """
    own = np.take_along_axis(logits, labels[:, None], 1)
    before = np.arange(logits.shape[1]) < labels[:, None]
    ahead = ((logits > own) | ((logits == own) & before)).sum(1)
    return float(((ahead < 5) & ~np.isnan(own[:, 0])).mean())


def logloss(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean negative logarithm of the probability of the right class, in nats.

    Args:
        labels: classes ``(N,)``.
        logits: ``(N, C)``.
    """
    logits = logits - logits.max(1, keepdims=True)
    right = np.take_along_axis(logits, labels[:, None], 1)[:, 0]
    return float((np.log(np.exp(logits).sum(1)) - right).mean())


def auc(labels: np.ndarray, logits: np.ndarray) -> float:
    """Area under the ROC curve: how often a sample of a class scores higher than one of the others.

    Equal scores count as half. With two classes the score is the difference of the logits, with
    more it is each class's probability against the rest, and the mean is over classes that have
    samples and do not have all.

    Args:
        labels: classes ``(N,)``.
        logits: ``(N, C)``.
    """
    if np.isnan(logits).any():
        return float('nan')
    if logits.shape[1] == 2:
        return _areas(labels[:, None] == 1, logits[:, 1:] - logits[:, :1])
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return _areas(labels[:, None] == np.arange(logits.shape[1]), odds / odds.sum(1, keepdims=True))


def _areas(positive: np.ndarray, values: np.ndarray) -> float:
    """Mean area of columns, by the ranks of the positive samples."""
    found = []
    for mask, column in zip(positive.T, values.T, strict=True):
        count = int(mask.sum())
        if 0 < count < len(mask):
            above = _ranks(column)[mask].sum() - count * (count + 1) / 2
            found.append(above / (count * (len(mask) - count)))
    return float(np.mean(found)) if found else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse.reshape(-1)]
