"""Splits of a table of frames into training and validation.

The released validation set of COBRACORPUS (arXiv 2306.01985) is the end of its file, which is for
comparisons. A split of our own keeps the frames of a statement together, so that no statement of
the validation set has been learned in another context.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from mmdistill.core.errors import UserError, did_you_mean
from mmkd.cobra.schema import Frame
from mmkd.traces.hashing import seeded_hash

OFFICIAL = 1000
"""Frames of the official validation set."""
FRACTIONS: Mapping[str, float] = {'train': 0.9, 'val': 0.1}
STRATA = ('offensive_bin', 'label_majority', 'label_all', 'more_offensive', 'group', 'source')
"""Fields of a frame whose shares can be kept."""


def official_split(frames: Sequence[Frame]) -> list[Frame]:
    """The last 1000 frames are ``val``, those before ``train``.

    Args:
        frames: of the whole corpus, in the order of its file.

    Returns:
        The same frames in their order, with their split. Contexts of one statement are neighbours,
        so the statement at the boundary may be on both sides, see :func:`straddling`.

    Raises:
        UserError: there are not more than 1000.
    """
    train = len(frames) - OFFICIAL
    if train < 1:
        raise UserError(
            f'the official split takes the last {OFFICIAL} frames and needs at least '
            f'{OFFICIAL + 1}, got {len(frames)}; take the whole corpus, or the grouped split'
        )
    return [
        frame.model_copy(update=dict(split='train' if number < train else 'val'))
        for number, frame in enumerate(frames)
    ]


def grouped_split(
    frames: Sequence[Frame],
    fractions: Mapping[str, float] = FRACTIONS,
    seed: int = 0,
    stratify: str | None = 'offensive_bin',
) -> list[Frame]:
    """Gives all frames of a statement to one split, with like shares of strata in all splits.

    Statements go, those with most frames first and in an order drawn by ``seed``, to the split
    where they make the least chi-square between what the splits have and what they should have,
    which counts all strata alike.

    Args:
        frames: in any order, which has no effect.
        fractions: share of each split, above 0, with sum 1.
        seed: of the draw.
        stratify: field whose values have the same share in all splits; None: only sizes count.

    Returns:
        The same frames in their order, with their split.

    Raises:
        UserError: bad fractions, a field that cannot be used or that no frame has, or fewer
            statements than it takes for every split to have one.
    """
    _check_fractions(fractions)
    strata = [_stratum(frame, stratify) for frame in frames]
    if stratify is not None and frames and set(strata) == {'None'}:
        raise UserError(
            f'stratify: no frame has {stratify}; fill it first (binarize offensiveness, for '
            'instance), or take stratify=None'
        )
    counts: defaultdict[str, Counter] = defaultdict(Counter)
    for frame, stratum in zip(frames, strata, strict=True):
        counts[frame.statement_id][stratum] += 1
    chosen = _assigned(counts, fractions, seed)
    empty = sorted(set(fractions) - set(chosen.values()))
    if empty:
        raise UserError(
            f'fractions: {len(counts)} statements leave nothing for {", ".join(empty)}; take more '
            'frames or other fractions'
        )
    return [frame.model_copy(update=dict(split=chosen[frame.statement_id])) for frame in frames]


def straddling(frames: Sequence[Frame]) -> int:
    """Number of statements with frames in more than one split."""
    splits: defaultdict[str, set[str]] = defaultdict(set)
    for frame in frames:
        splits[frame.statement_id].add(frame.split)
    return sum(len(found) > 1 for found in splits.values())


def _assigned(
    counts: Mapping[str, Counter], fractions: Mapping[str, float], seed: int
) -> dict[str, str]:
    """The split of each statement, given how many frames of each stratum it has."""
    totals: Counter = Counter()
    for own in counts.values():
        totals.update(own)
    names = sorted(fractions)
    filled: dict[str, Counter] = {name: Counter() for name in names}
    order = sorted(
        counts, key=lambda key: (-sum(counts[key].values()), seeded_hash('split', seed, key))
    )
    chosen = {}
    for key in order:
        own = counts[key]
        growth = {name: _growth(own, filled[name], totals) / fractions[name] for name in names}
        chosen[key] = min(names, key=growth.__getitem__)
        filled[chosen[key]].update(own)
    return chosen


def _growth(own: Counter, have: Counter, totals: Counter) -> float:
    """Of the squared shares of strata in a split that gets ``own`` besides what it has."""
    terms = (n * (2 * have[each] + n) / totals[each] ** 2 for each, n in own.items())
    return math.fsum(terms)


def _stratum(frame: Frame, field: str | None) -> str:
    """The value that is to have the same share in all splits, as text."""
    if field is None:
        return ''
    if field not in STRATA:
        raise UserError(
            f'stratify: must be one of {STRATA} or None, got {field!r}{did_you_mean(field, STRATA)}'
        )
    return str(getattr(frame, field))


def _check_fractions(fractions: Mapping[str, float]) -> None:
    """Shares above 0 with sum 1."""
    for name, share in fractions.items():
        if not share > 0:
            raise UserError(f'fractions: {name} must be above 0, got {share!r}')
    total = math.fsum(fractions.values())
    if not math.isclose(total, 1, abs_tol=1e-9):
        raise UserError(f'fractions: must have sum 1, got {total!r}')
