"""Three people with a colour each, who swap."""

from __future__ import annotations

from random import Random

from mmkd.reasoning.problem import Draft, Family
from mmkd.reasoning.words import COLOURS, NAMES


def draft(random: Random, level: int) -> Draft:
    """As many swaps as the level says."""
    people, colours = random.sample(NAMES, 3), random.sample(COLOURS, 3)
    holds, swaps, states = [0, 1, 2], [], []
    for _ in range(level):
        one, other = random.sample(range(3), 2)
        holds[one], holds[other] = holds[other], holds[one]
        swaps.append(f'{people[one]} and {people[other]} swap.')
        states.append(', '.join(f'{people[n]} {colours[holds[n]]}' for n in range(3)))
    start = ', '.join(f'{who} has {what}' for who, what in zip(people, colours, strict=True))
    asked = random.randrange(3)
    answer = colours[holds[asked]]
    return Draft(
        f'{start}. {" ".join(swaps)}',
        answer,
        tuple(each for each in colours if each != answer),
        tuple(states),
        dict(who=people[asked]),
    )


FAMILY = Family(
    'swaps',
    (
        '{body} What does {who} have?',
        '{body} Tell me what {who} has.',
        '{body} Which colour does {who} have?',
        '{body} Find what {who} has.',
    ),
    draft,
)
