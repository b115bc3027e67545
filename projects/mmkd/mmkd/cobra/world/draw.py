"""Frames drawn from the world: a corpus, and pairs of contexts that turn the effect round."""

from __future__ import annotations

from random import Random

from mmdistill.core.errors import UserError, did_you_mean
from mmkd.cobra.schema import Frame, statement_id
from mmkd.cobra.world.rules import Saying, Scene, frame, label, sayings, scenes
from mmkd.traces.schema import digest

CONTEXTS = 3
"""Of a statement in the corpus, as in COBRA's."""
SHARES = dict(train=0.7, dev=0.1, test=0.2)
"""Of the statements; none is in two splits."""


def statements(split: str, seed: int = 0) -> list[Saying]:
    """The statements of a split in random order: some of every family.

    Args:
        split: ``train``, ``dev`` or ``test``.
        seed: of the division.

    Raises:
        UserError: no such split.
    """
    if split not in SHARES:
        raise UserError(f'the world has no split {split!r}{did_you_mean(split, SHARES)}')
    families: dict[str, list[Saying]] = {}
    for each in sayings():
        families.setdefault(each.family, []).append(each)
    found = []
    for each in families.values():
        each.sort(key=lambda saying: digest([seed, saying.text]))
        begin = 0.0
        for name, share in SHARES.items():
            end = begin + share
            if name == split:
                found += each[round(begin * len(each)) : round(end * len(each))]
            begin = end
    Random(f'{seed} {split}').shuffle(found)
    return found


def corpus(split: str, count: int, seed: int = 0) -> list[Frame]:
    """Frames of a split, half of them slights; every statement has :data:`CONTEXTS` contexts.

    Args:
        split: see :func:`statements`.
        count: of frames, at most as many as there are.
        seed: of statements and contexts.

    Raises:
        UserError: no such split, or it has fewer frames.
    """
    left = {
        saying: _by_label(saying, Random(f'{seed} {saying.text}'))
        for saying in statements(split, seed)
    }
    found: list[Frame] = []
    while len(found) < count:
        before = len(found)
        for saying, sides in left.items():
            wanted = [len(found) % 2, (len(found) + 1) % 2, len(found) % 2][:CONTEXTS]
            chosen = [sides[each].pop() for each in wanted if sides[each]]
            found += [frame(saying, scene, split=split) for scene in chosen]
            if len(found) >= count:
                break
        if len(found) == before:
            raise UserError(f'{split} of the world has {before} frames, {count} are asked for')
    return found[:count]


def pairs(split: str, count: int, seed: int = 0) -> list[Frame]:
    """Pairs of one statement in two contexts with opposite labels, as alike as they can be.

    Args:
        split: see :func:`statements`.
        count: of pairs.
        seed: of statements and contexts.

    Returns:
        Side A and side B of every pair in turn; which of them is the slight is random.

    Raises:
        UserError: no such split.
    """
    rng, known, found = Random(f'{seed} {split} pairs'), statements(split, seed), []
    taken: set[tuple[Saying, Scene]] = set()
    for number in range(count):
        saying = known[number % len(known)]
        friendly, slight = _closest(saying, rng, taken)
        taken.update({(saying, friendly), (saying, slight)})
        sides = [friendly, slight]
        rng.shuffle(sides)
        key = digest([statement_id(saying.text), number])
        found += [
            frame(saying, scene, split=split, pair_id=key, side=side)
            for side, scene in zip('AB', sides, strict=True)
        ]
    return found


def _by_label(saying: Saying, rng: Random) -> list[list[Scene]]:
    """Its contexts in random order, friendly ones and slights."""
    every = list(scenes(saying.family))
    rng.shuffle(every)
    return [[scene for scene in every if label(saying, scene) == each] for each in (0, 1)]


def _closest(saying: Saying, rng: Random, taken: set) -> tuple[Scene, Scene]:
    """A friendly context and a slight that differ in as few facts as possible.

    Raises:
        UserError: no friendly one is left.
    """
    friendly, slights = _by_label(saying, rng)
    free = [scene for scene in friendly if (saying, scene) not in taken]
    others = [scene for scene in slights if (saying, scene) not in taken]
    if not free or not others:
        raise UserError('the world has no further pairs: ask for fewer')
    first = free[0]
    return first, min(
        others, key=lambda scene: sum(a != b for a, b in zip(first, scene, strict=True))
    )
