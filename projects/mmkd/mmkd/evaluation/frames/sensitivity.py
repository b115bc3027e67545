"""How much the frames of one statement differ from context to context.

A student that reads contexts differs about as much as the references do; one that ignores them
differs by nothing. COBRA (arXiv 2306.01985) has people look at the frames that differ most; the
number here is our own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
from sacrebleu.metrics import CHRF

from mmdistill.core.errors import UserError

_CHRF = CHRF()


def chrf_similarity(first: str, second: str) -> float:
    """chrF of each text as a prediction of the other, their mean, in [0, 1]."""
    both = ((first, second), (second, first))
    return sum(_CHRF.sentence_score(a, [b]).score for a, b in both) / 200


def statement_differences(
    frames: Sequence[Mapping[str, str]],
    statement_ids: Sequence[str],
    slots: Sequence[str],
    similarity: Callable[[str, str], float] = chrf_similarity,
) -> dict[str, float]:
    """1 - similarity of each statement's frames, mean over pairs of frames and over slots.

    Args:
        frames: slots and texts of N frames.
        statement_ids: of N frames; statements with a single one are left out.
        slots: to compare.
        similarity: of two texts, symmetric, in [0, 1]; it is not asked about equal ones.
    """
    by_statement: dict[str, list[Mapping[str, str]]] = {}
    for key, frame in zip(statement_ids, frames, strict=True):
        by_statement.setdefault(key, []).append(frame)
    return {
        key: float(
            np.mean(
                [
                    0.0 if a[slot] == b[slot] else 1 - similarity(a[slot], b[slot])
                    for a, b in combinations(same, 2)
                    for slot in slots
                ]
            )
        )
        for key, same in by_statement.items()
        if len(same) > 1
    }


def context_sensitivity(
    predictions: Sequence[Mapping[str, str]],
    references: Sequence[Mapping[str, str]],
    statement_ids: Sequence[str],
    slots: Sequence[str],
    similarity: Callable[[str, str], float] = chrf_similarity,
) -> dict[str, float]:
    """Differences of predictions beside those of references, see :func:`statement_differences`.

    Returns:
        ``predicted`` and ``reference``, means over statements, ``gap``, the first less the second,
        and the number of ``statements``.

    Raises:
        UserError: no statement has two frames.
    """
    own, theirs = (
        statement_differences(frames, statement_ids, slots, similarity)
        for frames in (predictions, references)
    )
    if not own:
        raise UserError('context sensitivity needs two frames or more of a statement, got none')
    predicted, reference = (float(np.mean(list(each.values()))) for each in (own, theirs))
    return dict(
        predicted=predicted, reference=reference, gap=predicted - reference, statements=len(own)
    )
