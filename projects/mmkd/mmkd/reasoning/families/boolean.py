"""Truth values that are joined from left to right."""

from __future__ import annotations

from random import Random

from mmkd.reasoning.problem import Draft, Family, nested

_TABLE = {'and': '0001', 'or': '0111', 'xor': '0110'}
"""Results for the operands 00, 01, 10 and 11."""


def draft(random: Random, level: int) -> Draft:
    """An expression of as many operators as the level says; half of the operands are negated."""
    value = random.randrange(2)
    first, rest, states = _word(value), [], []
    for _ in range(level):
        sign, bit, negated = random.choice(list(_TABLE)), random.randrange(2), random.randrange(2)
        rest.append((sign, f'not {_word(bit)}' if negated else _word(bit)))
        value = int(_TABLE[sign][2 * value + (bit ^ negated)])
        states.append(_word(value))
    return Draft(nested(first, rest), _word(value), (_word(1 - value),), tuple(states))


def _word(bit: int) -> str:
    """Of a truth value."""
    return 'true' if bit else 'false'


FAMILY = Family(
    'boolean',
    (
        'What is {body}?',
        'Give the value of {body}.',
        'Tell me the value of {body}.',
        'Find {body}.',
    ),
    draft,
)
