"""What a solver is: it reads a text as a start and actions, and applies one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple


class Reading(NamedTuple):
    """What a question says: the state at the ``start``, ``actions``, and what is to be found."""

    start: Any
    actions: tuple[Any, ...]
    ask: Any = None


class Step(NamedTuple):
    """A step of a solution: what is done, as text, and the state afterwards."""

    action: str
    state: str


@dataclass(frozen=True)
class Method:
    """How a family's problems are solved.

    Attributes:
        name: of the family.
        read: what a question says, options left out; None: it is of another family.
        apply: the state after an action.
        tell: text of a state and an action that is applied to it.
        show: text of a state.
        wrong: a state that gives another answer.
        answer: text of the last state and what is to be found.
        closing: sentence between the last state and the answer; '': none.
        opens: whether an explanation begins with the state at the start.
    """

    name: str
    read: Callable[[str], Reading | None]
    apply: Callable[[Any, Any], Any]
    tell: Callable[[Any, Any], str]
    show: Callable[[Any], str]
    wrong: Callable[[Any], Any]
    answer: Callable[[Any, Any], str]
    closing: Callable[[Any, Any], str] = lambda state, ask: ''
    opens: bool = False
