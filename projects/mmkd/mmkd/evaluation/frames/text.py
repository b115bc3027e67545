"""Texts of a slot against references: BLEU-2, ROUGE-L, chrF and exact match, all in [0, 1].

COBRA (arXiv 2306.01985) scores every slot of a frame by itself and averages over slots. BLEU there
has n-grams of at most two words and no smoothing. A prediction is scored whole: what it says beyond
the length of its reference counts against it. The libraries that score are imported late, as they
take seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from mmdistill.core.errors import UserError

References = str | Sequence[str]
"""The reference of a row, or several of which the nearest counts."""
NAMES = ('bleu2', 'rouge_l', 'chrf', 'exact')
"""Scores of :class:`TextScores` that are averaged over slots."""


@dataclass(frozen=True)
class TextScores:
    """Scores of the texts of one slot.

    Attributes:
        bleu2: of the corpus.
        rouge_l: F measure of the longest common subsequence of words, mean over rows.
        chrf: F measure of n-grams of characters, of the corpus.
        exact: share of rows that equal a reference but for case and white space.
        degenerate: ``bleu2`` is 0 because all predictions or all references are shorter than two
            words, however right they are.
        n: rows.
    """

    bleu2: float
    rouge_l: float
    chrf: float
    exact: float
    degenerate: bool
    n: int


def normalised(text: str) -> str:
    """The text without case and with single spaces."""
    return ' '.join(text.split()).casefold()


def bleu2(predictions: Sequence[str], references: Sequence[References]) -> tuple[float, bool]:
    """BLEU of one- and two-grams without smoothing, and whether it is degenerate.

    Several references of a row clip counts together, and the nearest of their lengths counts.
    """
    from sacrebleu.metrics import BLEU

    bleu = BLEU(max_ngram_order=2, smooth_method='none', tokenize='13a')
    several = _several(predictions, references)
    found = bleu.corpus_score(list(predictions), _streams(several))
    long = any(len(bleu.tokenizer(text).split()) > 1 for row in several for text in row)
    return found.score / 100, found.totals[1] == 0 or not long


def chrf(predictions: Sequence[str], references: Sequence[References]) -> float:
    """chrF of the corpus; of several references of a row the best counts."""
    from sacrebleu.metrics import CHRF

    several = _several(predictions, references)
    return CHRF().corpus_score(list(predictions), _streams(several)).score / 100


def rouge_l(predictions: Sequence[str], references: Sequence[References]) -> np.ndarray:
    """ROUGE-L's F measure of each row ``(N,)``, the largest over its references; no stemming."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(['rougeL'])
    several = _several(predictions, references)
    rows = zip(several, predictions, strict=True)
    return np.array([scorer.score_multi(row, text)['rougeL'].fmeasure for row, text in rows])


def exact(predictions: Sequence[str], references: Sequence[References]) -> np.ndarray:
    """Whether each row ``(N,)`` equals one of its references, see :func:`normalised`."""
    rows = zip(_several(predictions, references), predictions, strict=True)
    return np.array([normalised(text) in map(normalised, row) for row, text in rows])


def score_texts(predictions: Sequence[str], references: Sequence[References]) -> TextScores:
    """All scores of a slot.

    Args:
        predictions: N texts.
        references: one or several of each.

    Raises:
        UserError: no rows, other numbers of the two, or a row without a reference.
    """
    value, degenerate = bleu2(predictions, references)
    return TextScores(
        bleu2=value,
        rouge_l=float(rouge_l(predictions, references).mean()),
        chrf=chrf(predictions, references),
        exact=float(exact(predictions, references).mean()),
        degenerate=degenerate,
        n=len(predictions),
    )


def score_slots(
    predictions: Sequence[Mapping[str, str]],
    references: Sequence[Sequence[Mapping[str, str]]],
    slots: Sequence[str],
) -> dict[str, TextScores]:
    """Scores of each slot that has references.

    Args:
        predictions: slots and texts of N frames.
        references: of each frame those of one or several references. One whose slot is blank is no
            reference for that slot, and a row without any is not scored.
        slots: to score.
    """
    scores = {}
    for slot in slots:
        filled = [[each[slot] for each in row if each[slot].strip()] for row in references]
        pairs = zip(predictions, filled, strict=True)
        kept = [(each[slot], texts) for each, texts in pairs if texts]
        if kept:
            scores[slot] = score_texts(*zip(*kept, strict=True))
    return scores


def mean_over_slots(scores: Mapping[str, TextScores]) -> dict[str, float]:
    """Plain means of :data:`NAMES`; slots with a degenerate BLEU-2 count with their 0."""
    return {
        name: float(np.mean([getattr(each, name) for each in scores.values()])) for name in NAMES
    }


def pooled(
    statement_ids: Sequence[str], references: Sequence[Mapping[str, str]]
) -> list[list[Mapping[str, str]]]:
    """Of each frame the references of all frames of its statement.

    A model that does not see contexts has one input and one output for all of them.
    """
    by_statement: dict[str, list[Mapping[str, str]]] = {}
    for key, reference in zip(statement_ids, references, strict=True):
        by_statement.setdefault(key, []).append(reference)
    return [by_statement[key] for key in statement_ids]


def bootstrap_interval(
    statistic: Callable[[np.ndarray], float],
    n: int,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a statistic of rows that are drawn anew with replacement.

    Args:
        statistic: from the indices of rows ``(n,)`` to a number.
        n: rows.
        resamples: how often they are drawn.
        level: share of the resamples inside.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    values = [statistic(rng.integers(n, size=n)) for _ in range(resamples)]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _several(predictions: Sequence[str], references: Sequence[References]) -> list[list[str]]:
    """References as lists, checked."""
    if not len(predictions) or len(predictions) != len(references):
        raise UserError(
            f'texts to score: {len(predictions)} predictions and {len(references)} references; '
            f'give as many of both, and at least one'
        )
    rows = [[each] if isinstance(each, str) else list(each) for each in references]
    for index, row in enumerate(rows):
        if not any(text.strip() for text in row):
            raise UserError(f'texts to score: row {index} has no reference: leave it out')
    return rows


def _streams(references: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """References as sacrebleu wants them: the first of each row, the second of each row, ..."""
    return [list(stream) for stream in zip_longest(*references)]
