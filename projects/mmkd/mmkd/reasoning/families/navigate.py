"""Walks on a grid of squares."""

from __future__ import annotations

from random import Random

from mmkd.reasoning.problem import Draft, Family, some_of, window

LIMIT = 20
_TURNS = dict(left=1j, right=-1j, round=-1)
_COMPASS = {1j: 'north', 1: 'east', -1j: 'south', -1: 'west'}


def _text(place: complex) -> str:
    """Coordinates."""
    return f'{int(place.real)} {int(place.imag)}'


def _within(place: complex) -> bool:
    """Whether both coordinates are numbers of the world."""
    return 0 <= place.real <= LIMIT and 0 <= place.imag <= LIMIT


def draft(random: Random, level: int) -> Draft:
    """As many moves as the level says; a place is a complex number, a turn is a product."""
    place = complex(random.randint(5, 12), random.randint(5, 12))
    heading = random.choice(list(_COMPASS))
    start = f'You are at {_text(place)} and face {_COMPASS[heading]}.'
    moves, states = [], []
    for number in range(level):
        far = [n for n in (1, 2, 3) if _within(place + n * heading)]
        if far and (random.random() < 0.5 or number == level - 1):
            distance = random.choice(far)
            place += distance * heading
            moves.append(f'Walk {distance}.')
        else:
            turn = random.choice(list(_TURNS))
            heading *= _TURNS[turn]
            moves.append(f'Turn {turn}.')
        states.append(f'{_COMPASS[heading]}, {_text(place)}')
    columns, rows = (window(random, int(each), 3) for each in (place.real, place.imag))
    near = [_text(complex(x, y)) for x in columns for y in rows]
    wrong = some_of(random, near, _text(place))
    return Draft(f'{start} {" ".join(moves)}', _text(place), wrong, tuple(states))


FAMILY = Family(
    'navigate',
    (
        '{body} Where are you?',
        '{body} Tell me where you are.',
        '{body} Which place is it?',
        '{body} Find where you are.',
    ),
    draft,
)
