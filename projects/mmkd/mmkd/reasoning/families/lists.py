"""A list of colours whose order changes."""

from __future__ import annotations

from random import Random

from mmkd.reasoning.problem import Draft, Family, some_of
from mmkd.reasoning.words import COLOURS, ORDINALS

_LENGTH = 4
_MOVES = {
    'Reverse it.': (3, 2, 1, 0),
    'Move the first to the end.': (1, 2, 3, 0),
    'Move the last to the front.': (3, 0, 1, 2),
    'Swap the first two.': (1, 0, 2, 3),
}
"""Where the colours of the new list are in the old one."""


def draft(random: Random, level: int) -> Draft:
    """A list of four, and as many moves as the level says."""
    colours = random.sample(COLOURS, _LENGTH)
    start = f'The list is {" ".join(colours)}.'
    told, states = [], []
    for _ in range(level):
        move = random.choice(list(_MOVES))
        colours = [colours[old] for old in _MOVES[move]]
        told.append(move)
        states.append(' '.join(colours))
    asked = random.randrange(_LENGTH)
    return Draft(
        f'{start} {" ".join(told)}',
        colours[asked],
        some_of(random, colours, colours[asked]),
        tuple(states),
        dict(place=ORDINALS[asked]),
    )


FAMILY = Family(
    'lists',
    (
        '{body} Which colour is {place}?',
        '{body} What is {place}?',
        '{body} Tell me which colour is {place}.',
        '{body} Find which colour is {place}.',
    ),
    draft,
)
