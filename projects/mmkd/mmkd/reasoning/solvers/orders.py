"""Lines and lists whose order changes, and people who swap."""

from __future__ import annotations

import re

from mmkd.reasoning.chain import Method, Reading
from mmkd.reasoning.words import ORDINALS

Names = tuple[str, ...]


def _ordinal(text: str) -> int:
    """Place that the last sentence asks for, from 0; -1: none."""
    found = re.findall('|'.join(ORDINALS), re.split(r'\. ', text)[-1])
    return ORDINALS.index(found[-1]) if found else -1


def _rotated(state: Names) -> Names:
    """Each at another place."""
    return (*state[1:], state[0]) if len(state) > 1 else (*state, *state)


def _at(state: Names, place: int) -> str:
    """Who is at a place; the last one where there are fewer."""
    return state[min(place, len(state) - 1)]


def _counted(state: Names, place: int) -> str:
    """``first Kim, second Ned`` up to a place."""
    return ', '.join(f'{n} {each}' for n, each in zip(ORDINALS[: place + 1], state, strict=False))


def _read_line(text: str) -> Reading | None:
    """Of a line that people join."""
    start = re.match(r'(\w+) is in line\.', text)
    moves = re.findall(r'(\w+) goes (to the front|to the end|behind \w+)\.', text)
    place = _ordinal(text)
    return Reading((start[1],), tuple(moves), place) if start and moves and place >= 0 else None


def _join(state: Names, move: tuple[str, str]) -> Names:
    """The line with one more."""
    who, where = move
    if where == 'to the front':
        return (who, *state)
    if where == 'to the end':
        return (*state, who)
    before = where.removeprefix('behind ')
    return tuple(each for old in state for each in ((old, who) if old == before else (old,)))


def _read_list(text: str) -> Reading | None:
    """Of a list."""
    start = re.match(r'The list is ([\w ]+)\.', text)
    moves = re.findall(r'Reverse it|Move the (?:first|last) to the \w+|Swap the first two', text)
    place = _ordinal(text)
    if not start or not moves or place < 0:
        return None
    return Reading(tuple(start[1].split()), tuple(moves), place)


def _reorder(state: Names, move: str) -> Names:
    """The list after a move."""
    items = list(state)
    if move == 'Reverse it':
        items.reverse()
    elif move == 'Swap the first two':
        items[0], items[1] = items[1], items[0]
    elif move == 'Move the first to the end':
        items.append(items.pop(0))
    else:
        items.insert(0, items.pop())
    return tuple(items)


def _read_swaps(text: str) -> Reading | None:
    """Of people who swap."""
    start = tuple(re.findall(r'(\w+) has (\w+)', text))
    swaps = re.findall(r'(\w+) and (\w+) swap\.', text)
    last = re.findall(r'\w+', re.split(r'\. ', text)[-1])
    asked = [who for who, _ in start if who in last]
    return Reading(start, tuple(swaps), asked[0]) if swaps and len(asked) == 1 else None


def _swap(state: tuple[tuple[str, str], ...], pair: tuple[str, str]) -> tuple:
    """What all have after two have swapped."""
    has, (one, other) = dict(state), pair
    has[one], has[other] = has[other], has[one]
    return tuple(has.items())


def _pass_on(state: tuple[tuple[str, str], ...]) -> tuple:
    """Each has what the next one had."""
    people, things = zip(*state, strict=True)
    return tuple(zip(people, _rotated(things), strict=True))


ORDERING = Method(
    'ordering',
    read=_read_line,
    apply=_join,
    tell=lambda state, move: f'{move[0]} {move[1]}:',
    show=' '.join,
    wrong=_rotated,
    answer=_at,
    closing=_counted,
    opens=True,
)
LISTS = Method(
    'lists',
    read=_read_list,
    apply=_reorder,
    tell=lambda state, move: f'{move}:',
    show=' '.join,
    wrong=_rotated,
    answer=_at,
    closing=_counted,
    opens=True,
)
SWAPS = Method(
    'swaps',
    read=_read_swaps,
    apply=_swap,
    tell=lambda state, pair: f'{pair[0]} and {pair[1]} swap:',
    show=lambda state: ', '.join(f'{who} {what}' for who, what in state),
    wrong=_pass_on,
    answer=lambda state, who: dict(state)[who],
    closing=lambda state, who: f'{who} has {dict(state)[who]}',
    opens=True,
)
