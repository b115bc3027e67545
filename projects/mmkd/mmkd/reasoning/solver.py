"""Solves the questions of the world by their text, and knows nothing of how they are made."""

from __future__ import annotations

from dataclasses import dataclass

from mmkd.reasoning.chain import Method, Step
from mmkd.reasoning.solvers import expressions, groups, moves, orders
from mmkd.traces.options import listed_options

METHODS: tuple[Method, ...] = (
    *(orders.SWAPS, orders.ORDERING, orders.LISTS),
    *(moves.NAVIGATE, moves.WEEKDAYS, moves.COINS),
    *(groups.COUNTING, groups.BRACKET_ENDS),
    *(expressions.BOOLEAN, expressions.ARITHMETIC),
)


@dataclass(frozen=True)
class Solution:
    """How a question is answered.

    Attributes:
        family: of the question.
        start: the state at the start, where an explanation begins with it; '': it does not.
        steps: one after the other.
        closing: sentences between the last step and the answer.
        answer: text; a letter in brackets where options are listed.
        wrong_answer: another one.
    """

    family: str
    start: str
    steps: tuple[Step, ...]
    closing: tuple[str, ...]
    answer: str
    wrong_answer: str


def solve(question: str, slip: int | None = None) -> Solution | None:
    """The solution of a question; None: it is none of the world's.

    Args:
        question: its text, with options or without.
        slip: number of a step, from 0, after which the state is wrong; later steps go on from it.
            It is taken modulo the number of steps. None: all steps are right.
    """
    letters, options = listed_options(question)
    stem = question.split('\nOptions:')[0].strip() if options else question.strip()
    for method in METHODS:
        reading = method.read(stem)
        if reading:
            break
    else:
        return None
    state, steps = reading.start, []
    for number, action in enumerate(reading.actions):
        told = method.tell(state, action)
        state = method.apply(state, action)
        if slip is not None and number == slip % len(reading.actions):
            state = method.wrong(state)
        steps.append(Step(told, method.show(state)))
    closing = [method.closing(state, reading.ask)]
    answer = method.answer(state, reading.ask)
    wrong = method.answer(method.wrong(state), reading.ask)
    if options:
        place = options.index(answer) if answer in options else 0
        if answer in options:
            closing.append(f'{answer} is ({letters[place]})')
        answer, wrong = (f'({letters[(place + n) % len(letters)]})' for n in (0, 1))
    return Solution(
        method.name,
        method.show(reading.start) if method.opens else '',
        tuple(steps),
        tuple(each for each in closing if each),
        answer,
        wrong,
    )
