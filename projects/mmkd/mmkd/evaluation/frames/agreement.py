"""Agreement of annotators who rate the same units, corrected for chance; missing ratings allowed.

Ratings are one sequence per rater, of one value per unit; None or NaN is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from mmdistill.core.errors import UserError

Ratings = Sequence[Sequence[Any]]


def krippendorff_alpha(ratings: Ratings, level: Literal['nominal', 'ordinal'] = 'nominal') -> float:
    """Krippendorff's alpha: 1 perfect, 0 as by chance, negative below that.

    Disagreements are 0 or 1 for nominal values; for ordinal ones they are the square of the number
    of ratings between two values, each of the two counted half (Krippendorff, Content Analysis).

    Args:
        ratings: R raters of U units. Units with fewer than two ratings do not count.
        level: of measurement; ordinal values are ordered as Python sorts them.

    Raises:
        UserError: an unknown level, raters of different lengths, or no two different values in
            units with two ratings, so that alpha is not defined.
    """
    if level not in ('nominal', 'ordinal'):
        raise UserError(f'level {level!r} is not known; known: nominal, ordinal')
    counts = _counts(ratings)
    raters = counts.sum(1, keepdims=True)
    pairs = counts[:, :, None] * (counts[:, None] - np.eye(counts.shape[1]))
    together = (pairs / (raters - 1)[:, :, None]).sum(0)
    totals = counts.sum(0)
    apart = _distances(totals, level)
    expected = totals @ apart @ totals / (totals.sum() - 1)
    if expected == 0:
        raise UserError('alpha is not defined: all ratings of units with two or more are the same')
    return float(1 - (together * apart).sum() / expected)


def randolph_kappa(ratings: Ratings, categories: int) -> float:
    """Randolph's free-marginal kappa of several raters (2005).

    The share of agreeing pairs of ratings of a unit, mean over units, against the chance of raters
    who choose among all categories alike.

    Args:
        ratings: R raters of U units. Units with fewer than two ratings do not count.
        categories: how many there are to choose from, used or not.

    Raises:
        UserError: raters of different lengths, no unit with two ratings, or fewer categories than
            values.
    """
    counts = _counts(ratings)
    if categories < max(2, counts.shape[1]):
        raise UserError(
            f'{categories} categories for {counts.shape[1]} different ratings: give the number '
            f'that raters could choose from, at least two'
        )
    raters = counts.sum(1)
    agreed = float(((counts * (counts - 1)).sum(1) / (raters * (raters - 1))).mean())
    return (agreed - 1 / categories) / (1 - 1 / categories)


def _counts(ratings: Ratings) -> np.ndarray:
    """How often each value was given to each unit with two ratings or more, ``(units, values)``."""
    if len({len(row) for row in ratings}) != 1:
        raise UserError('ratings: give one value per unit of every rater; None is a missing one')
    units = [[v for v in unit if v is not None and v == v] for unit in zip(*ratings, strict=True)]
    units = [unit for unit in units if len(unit) > 1]
    if not units:
        raise UserError('ratings: no unit has two: agreement is not defined')
    values = sorted({value for unit in units for value in unit})
    return np.array([[unit.count(value) for value in values] for unit in units], float)


def _distances(totals: np.ndarray, level: str) -> np.ndarray:
    """Squared differences of values ``(values, values)``."""
    if level == 'nominal':
        return 1 - np.eye(len(totals))
    middle = np.cumsum(totals) - totals / 2
    return (middle[:, None] - middle) ** 2
