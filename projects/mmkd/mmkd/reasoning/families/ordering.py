"""People who join a line at its front, at its end, or behind somebody."""

from __future__ import annotations

from random import Random

from mmkd.reasoning.problem import Draft, Family, some_of
from mmkd.reasoning.words import NAMES, ORDINALS


def draft(random: Random, level: int) -> Draft:
    """A line that as many people join as the level says."""
    first, *others = random.sample(NAMES, level + 1)
    line, moves, states = [first], [], []
    for who in others:
        place = random.choice(('front', 'end', 'behind'))
        before = random.randrange(len(line))
        where = {'front': 0, 'end': len(line), 'behind': before + 1}[place]
        moves.append(
            f'{who} goes behind {line[before]}.'
            if place == 'behind'
            else f'{who} goes to the {place}.'
        )
        line = [*line[:where], who, *line[where:]]
        states.append(' '.join(line))
    asked = random.randrange(len(line))
    return Draft(
        f'{first} is in line. {" ".join(moves)}',
        line[asked],
        some_of(random, line, line[asked]),
        tuple(states),
        dict(place=ORDINALS[asked]),
    )


FAMILY = Family(
    'ordering',
    (
        '{body} Who is {place}?',
        '{body} Tell me who is {place}.',
        '{body} Which name is {place}?',
        '{body} Find who is {place}.',
    ),
    draft,
)
