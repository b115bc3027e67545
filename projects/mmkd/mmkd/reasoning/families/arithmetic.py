"""Expressions of small numbers that are read from left to right."""

from __future__ import annotations

from random import Random

from mmkd.reasoning.problem import Draft, Family, nested, some_of, window

LIMIT = 20


def _moves(value: int) -> dict[str, list[int]]:
    """Operands of every sign that keep a value within 0 and the limit."""
    found = {
        '+': [n for n in range(1, 10) if value + n <= LIMIT],
        '-': [n for n in range(1, 10) if value >= n],
        '*': [n for n in (2, 3) if 0 < value * n <= LIMIT],
    }
    return {sign: operands for sign, operands in found.items() if operands}


def draft(random: Random, level: int) -> Draft:
    """An expression of as many operators as the level says."""
    first = value = random.randint(1, 9)
    rest, states = [], []
    for _ in range(level):
        moves = _moves(value)
        sign = random.choice(list(moves))
        operand = random.choice(moves[sign])
        value = {'+': value + operand, '-': value - operand, '*': value * operand}[sign]
        rest.append((sign, str(operand)))
        states.append(str(value))
    near = map(str, window(random, value))
    return Draft(
        nested(str(first), rest), str(value), some_of(random, near, str(value)), tuple(states)
    )


FAMILY = Family(
    'arithmetic',
    (
        'What is {body}?',
        'Find {body}.',
        'Give the value of {body}.',
        'Tell me the value of {body}.',
    ),
    draft,
)
