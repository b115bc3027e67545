"""Days of the week, some days on and some days back."""

from __future__ import annotations

from random import Random

from mmkd.reasoning.problem import Draft, Family, some_of
from mmkd.reasoning.words import DAYS


def draft(random: Random, level: int) -> Draft:
    """As many moves as the level says, of two to six days."""
    start = random.randrange(7)
    moves = [random.choice((-1, 1)) * random.randint(2, 6) for _ in range(level)]
    days = [DAYS[(start + sum(moves[: n + 1])) % 7] for n in range(level)]
    told = [f'Go {abs(each)} days {"on" if each > 0 else "back"}.' for each in moves]
    return Draft(
        f'It is {DAYS[start]}. {" ".join(told)}',
        days[-1],
        some_of(random, DAYS, days[-1]),
        tuple(days),
    )


FAMILY = Family(
    'weekdays',
    (
        '{body} Which day is it?',
        '{body} Find the day.',
        '{body} Tell me which day it is.',
        '{body} Find which day it is.',
    ),
    draft,
)
