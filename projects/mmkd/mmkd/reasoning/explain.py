"""Solutions as text, in three degrees of detail."""

from __future__ import annotations

import re
from enum import IntEnum

from mmkd.reasoning.solver import Solution

_BRIEF = re.compile(
    r'\bonly the (answer|letter|result)|\bthe answer alone|\bno (steps|reasons)', re.I
)
_FULL = re.compile(r'\bsteps?\b|\bexplain|\breason|\bjustif|\bwhy\b|\bdetail|\bteach', re.I)


class Detail(IntEnum):
    """How much of a solution is told."""

    ANSWER = 0
    STATES = 1
    FULL = 2


def asked_detail(system: str) -> Detail:
    """What a system message asks for.

    Full steps, where it speaks of steps, reasons or explanations; the answer, where it wants that
    alone; otherwise, and where there is none, the states in short.

    Args:
        system: message; may be empty.
    """
    if _BRIEF.search(system):
        return Detail.ANSWER
    return Detail.FULL if _FULL.search(system) else Detail.STATES


def explanation(solution: Solution, detail: Detail, answer: str | None = None) -> str:
    """Text of a solution.

    Every sentence of a full explanation has a step and the state after it, so that the next word
    follows from few words before it.

    Args:
        solution: to be told.
        detail: how much of it.
        answer: another answer at the end than the solution's; None: its own.
    """
    answer = solution.answer if answer is None else answer
    if detail is Detail.ANSWER:
        return answer
    last = f'The answer is {answer}.'
    if detail is Detail.STATES:
        return f'{"; ".join(step.state for step in solution.steps)}. {last}'
    start = [f'Start: {solution.start}.'] if solution.start else []
    told = [f'{step.action} {step.state}.' for step in solution.steps]
    return ' '.join([*start, *told, *(f'{each}.' for each in solution.closing), last])
