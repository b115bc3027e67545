"""Scores as functions of labels and predictions; all in [-1, 1] or [0, 1], undefined ones are 0."""

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


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse.reshape(-1)]
