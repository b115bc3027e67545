"""A problem of the world, and what a family of problems is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random

LEVELS = range(1, 7)
"""Levels of difficulty: steps of a solution, but for brackets, which have two a level."""


@dataclass(frozen=True)
class Draft:
    """What a family draws.

    Attributes:
        body: what is given.
        answer: text.
        wrong: other answers that look likely; none is the answer, none is there twice.
        steps: the state after every step of a solution, as text.
        ask: further words of the question, by their place in it.
    """

    body: str
    answer: str
    wrong: tuple[str, ...]
    steps: tuple[str, ...]
    ask: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """A kind of problems.

    Attributes:
        name: of it.
        templates: wordings with ``{body}`` and the keys of ``Draft.ask``; the last one is held
            out, its words are known from other templates.
        draft: draws from a generator of random numbers and a level.
    """

    name: str
    templates: tuple[str, ...]
    draft: Callable[[Random, int], Draft]


@dataclass(frozen=True)
class Problem:
    """A question and all that is known about it.

    Attributes:
        family: name.
        index: number within the family and seed.
        difficulty: level, 1 to 6.
        template: number of the wording.
        question: text, with its options where it lists some.
        answer: text; the letter in brackets where there are options.
        options: texts, (A) first; empty: free text.
        steps: the state after every step of a solution.
        core: what is asked, whatever the wording and the options.
    """

    family: str
    index: int
    difficulty: int
    template: int
    question: str
    answer: str
    options: tuple[str, ...]
    steps: tuple[str, ...]
    core: str


def nested(first: str, rest: Iterable[tuple[str, str]]) -> str:
    """An expression that is read from left to right, ``( ( a + b ) * c ) - d``.

    Args:
        first: operand.
        rest: operator and operand of every step.
    """
    text = first
    for number, (sign, operand) in enumerate(rest):
        text = f'{f"( {text} )" if number else text} {sign} {operand}'
    return text


def some_of(random: Random, found: Iterable[str], answer: str, count: int = 3) -> tuple[str, ...]:
    """A few wrong answers, in random order.

    Args:
        random: generator.
        found: candidates; the answer and repetitions are left out.
        answer: the right one.
        count: at most.
    """
    others = [each for each in dict.fromkeys(found) if each != answer]
    return tuple(random.sample(others, min(count, len(others))))


def window(random: Random, value: int, size: int = 4) -> range:
    """Numbers from 0 on, ``size`` of them, of which each is the value with the same probability.

    So a value away from 0 is not to be told from where it stands among them.
    """
    low = max(0, value - random.randrange(size))
    return range(low, low + size)
