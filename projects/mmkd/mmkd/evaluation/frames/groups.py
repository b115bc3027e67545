"""Scores per group of people that statements are about."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

MIN_COUNT = 50
"""Rows from which on a group has scores: those of fewer say little, and may say much of few."""


def scores_by_group(
    groups: Sequence[str | None],
    score: Callable[[np.ndarray], Mapping[str, float]],
    min_count: int = MIN_COUNT,
) -> dict[str, dict[str, float]]:
    """Scores of each group with enough rows, and of others their number ``n`` alone.

    Args:
        groups: of N rows; rows of None or a blank one are in no group.
        score: from the indices of the rows of a group to its scores.
        min_count: rows that are enough.
    """
    rows: dict[str, list[int]] = {}
    for index, name in enumerate(groups):
        if name is not None and name.strip():
            rows.setdefault(name, []).append(index)
    return {
        name: dict(n=len(own), **(score(np.array(own)) if len(own) >= min_count else {}))
        for name, own in sorted(rows.items())
    }
