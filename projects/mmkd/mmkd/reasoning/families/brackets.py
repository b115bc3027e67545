"""Brackets of three kinds, some of them open, which are to be closed."""

from __future__ import annotations

from random import Random

from mmkd.reasoning.problem import Draft, Family, some_of
from mmkd.reasoning.words import BRACKETS

_DEEPEST = 4


def _symbols(random: Random, count: int) -> list[str]:
    """Brackets in which nothing is closed that is not open."""
    found, open_ones = [], []
    for _ in range(count):
        if not open_ones or (len(open_ones) < _DEEPEST and random.random() < 0.6):
            open_ones.append(random.choice(list(BRACKETS)))
            found.append(open_ones[-1])
        else:
            found.append(BRACKETS[open_ones.pop()])
    return found


def _closing(symbols: list[str]) -> list[str]:
    """What closes the brackets: pairs vanish until only open ones are left."""
    text, before = ''.join(symbols), None
    while text != before:
        before = text
        for start, end in BRACKETS.items():
            text = text.replace(start + end, '')
    return [BRACKETS[each] for each in reversed(text)]


def _slightly_wrong(right: list[str]) -> list[str]:
    """One bracket of another kind, one too few or too many, and the reverse."""
    ends = list(BRACKETS.values())
    found = [[end, *right[1:]] for end in ends] + [[*right[:-1], end] for end in ends]
    found += [right[::-1], [*right, right[0]]]
    if len(right) > 1:
        found.append(right[:-1])
    return [' '.join(each) for each in found]


def draft(random: Random, level: int) -> Draft:
    """Twice as many brackets as the level says, of which at least one is open."""
    symbols = _symbols(random, 2 * level)
    while not _closing(symbols):
        symbols = _symbols(random, 2 * level)
    right = _closing(symbols)
    states = [_closing(symbols[: n + 1]) for n in range(len(symbols))]
    answer = ' '.join(right)
    return Draft(
        ' '.join(symbols),
        answer,
        some_of(random, _slightly_wrong(right), answer),
        tuple(' '.join(each) or 'nothing' for each in states),
    )


FAMILY = Family(
    'brackets',
    (
        'Close the brackets: {body}',
        'What must close: {body}',
        'Give the end of: {body}',
        'Find what must close: {body}',
    ),
    draft,
)
