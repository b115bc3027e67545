"""A coin that some people flip and others do not."""

from __future__ import annotations

from random import Random

from mmkd.reasoning.problem import Draft, Family
from mmkd.reasoning.words import NAMES, SIDES


def draft(random: Random, level: int) -> Draft:
    """As many people as the level says."""
    start = random.randrange(2)
    flips = [random.randrange(2) for _ in range(level)]
    told = [f'{random.choice(NAMES)} {"flips it" if each else "lets it be"}.' for each in flips]
    sides = [SIDES[(start + sum(flips[: n + 1])) % 2] for n in range(level)]
    return Draft(
        f'The coin shows {SIDES[start]}. {" ".join(told)}',
        sides[-1],
        tuple(each for each in SIDES if each != sides[-1]),
        tuple(sides),
    )


FAMILY = Family(
    'coins',
    (
        '{body} What does it show?',
        '{body} Tell me what it shows.',
        '{body} Which side is up?',
        '{body} Find what it shows.',
    ),
    draft,
)
