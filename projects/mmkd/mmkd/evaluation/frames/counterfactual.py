"""Verdicts on statements whose context turns them from harmless to offensive.

The two contexts of a statement are a pair (COBRACORPUS-CF, arXiv 2306.01985). Who ignores contexts
says the same twice: over pairs with one label of each kind exactly half of these rows are right,
and no pair. Another value means that contexts leak, that decoding draws, or that pairs are broken.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mmdistill.core.errors import UserError
from mmkd.evaluation.scores import accuracy, f1


@dataclass(frozen=True)
class Judged:
    """A row with its verdict.

    Attributes:
        label: 1 offensive, 0 not; -1 (annotators differ) and None (not asked) are excluded.
        prediction: 1 or 0; None abstains, which is wrong.
        pair_id: shared by the two rows of a pair, wherever they are; None: of no pair.
    """

    label: int | None
    prediction: int | None
    pair_id: str | None = None

    def __post_init__(self) -> None:
        if self.label not in (-1, 0, 1, None) or self.prediction not in (0, 1, None):
            raise UserError(
                f'pair {self.pair_id}: label {self.label!r} must be -1, 0, 1 or None, and '
                f'prediction {self.prediction!r} 0, 1 or None'
            )

    @property
    def counts(self) -> bool:
        """Whether it has a label."""
        return self.label in (0, 1)

    @property
    def right(self) -> bool:
        """Whether the verdict is that of the label."""
        return self.prediction == self.label


def row_scores(rows: Sequence[Judged]) -> dict[str, float]:
    """Scores of the class 1, offensive.

    Returns:
        ``n`` rows and ``excluded`` ones; if there are rows, ``accuracy``, ``precision``,
        ``recall`` and ``f1``, in which abstaining counts as the wrong class, ``coverage``, the
        share of rows without abstaining, and ``majority``, the accuracy of always saying the more
        frequent label. Undefined ones are 0.
    """
    kept = [row for row in rows if row.counts]
    scores: dict[str, float] = dict(n=len(kept), excluded=len(rows) - len(kept))
    if not kept:
        return scores
    labels = np.array([row.label for row in kept])
    found = np.array([1 - row.label if row.prediction is None else row.prediction for row in kept])
    hits = int((labels & found).sum())
    share = float(labels.mean())
    scores.update(
        accuracy=accuracy(labels, found),
        precision=hits / max(int(found.sum()), 1),
        recall=hits / max(int(labels.sum()), 1),
        f1=f1(labels, found),
        coverage=float(np.mean([row.prediction is not None for row in kept])),
        majority=max(share, 1 - share),
    )
    return scores


def pair_scores(rows: Iterable[Judged]) -> dict[str, float]:
    """Scores of pairs with one row labelled 0 and one labelled 1.

    Returns:
        ``pairs`` that are used; ``incomplete`` ones, of which a row or its label is missing;
        ``same_label``, those with two equal labels; none of these are used. If there are pairs,
        the shares of ``pair_accuracy`` (both right), ``one_sided`` (one right) and
        ``both_wrong``, which sum to 1, and of ``flip`` (the two verdicts differ), ``always_same``
        and ``abstained`` (a verdict is missing), which do too.

    Raises:
        UserError: three rows or more of one pair.
    """
    pairs: dict[str, list[Judged]] = {}
    for row in rows:
        if row.pair_id is not None:
            pairs.setdefault(row.pair_id, []).append(row)
    for key, sides in pairs.items():
        if len(sides) > 2:
            raise UserError(f'pair {key} has {len(sides)} rows: a pair id is for two')
    complete = [sides for sides in pairs.values() if sum(row.counts for row in sides) == 2]
    used = [sides for sides in complete if sides[0].label != sides[1].label]
    scores: dict[str, float] = dict(
        pairs=len(used),
        incomplete=len(pairs) - len(complete),
        same_label=len(complete) - len(used),
    )
    if used:
        right = np.array([sum(row.right for row in sides) for sides in used])
        said = [{row.prediction for row in sides} for sides in used]
        scores.update(
            pair_accuracy=float((right == 2).mean()),
            one_sided=float((right == 1).mean()),
            both_wrong=float((right == 0).mean()),
            flip=float(np.mean([each == {0, 1} for each in said])),
            always_same=float(np.mean([each in ({0}, {1}) for each in said])),
            abstained=float(np.mean([None in each for each in said])),
        )
    return scores


def by_column(
    labels: dict[str, Sequence[int | None]],
    predictions: Sequence[int | None],
    pair_ids: Sequence[str | None],
) -> dict[str, dict[str, float]]:
    """Scores of rows and pairs for each column of labels.

    Args:
        labels: by column, ``label_majority`` and ``label_all`` for example, those of N rows.
        predictions: of N rows.
        pair_ids: of N rows.
    """
    scores = {}
    for name, column in labels.items():
        rows = [Judged(*each) for each in zip(column, predictions, pair_ids, strict=True)]
        scores[name] = {**row_scores(rows), **pair_scores(rows)}
    return scores
