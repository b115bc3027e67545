"""Teachers of three strengths, and the faults that they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmdistill.core.errors import UserError, did_you_mean
from mmkd.reasoning.explain import Detail, asked_detail, explanation
from mmkd.reasoning.solver import solve
from mmkd.reasoning.vocabulary import REFUSAL, UNKNOWN, Vocabulary
from mmkd.traces.hashing import seeded_number
from mmkd.traces.schema import Message, digest

PERSONAS = dict(answer=Detail.ANSWER, intermediate=Detail.STATES, strong=Detail.FULL)
"""The most that each one tells, whatever a system message asks for."""
PREFIX = 'world-'
"""Of the names of their models."""
_PARTS = 1 << 32


class Faults(BaseModel):
    """Shares of answers that have a fault, at most one each.

    Attributes:
        wrong_answer: right steps, and another answer.
        wrong_step: one step is wrong, and all that follows builds on it; the answer may be right
            all the same.
        refusal: there is no answer but a refusal.
        empty: there is no text.
        cut: the text ends in the middle, ``finish_reason`` is ``length``.
    """

    model_config = ConfigDict(extra='forbid', frozen=True)

    wrong_answer: float = Field(0.0, ge=0, le=1)
    wrong_step: float = Field(0.0, ge=0, le=1)
    refusal: float = Field(0.0, ge=0, le=1)
    empty: float = Field(0.0, ge=0, le=1)
    cut: float = Field(0.0, ge=0, le=1)


class Said(NamedTuple):
    """What a persona says: ``text``, ``finish_reason``, and the name of its ``fault`` or ''."""

    text: str
    finish_reason: str
    fault: str


def faults_of(rates: Mapping[str, float] | None) -> Faults:
    """Faults by name.

    Args:
        rates: shares; None: no faults.

    Raises:
        UserError: an unknown name, no share, or a sum above 1.
    """
    rates = dict(rates or {})
    for name in rates:
        if name not in Faults.model_fields:
            known = list(Faults.model_fields)
            raise UserError(
                f'faults: unknown key {name!r}{did_you_mean(name, known)}; known: {known}'
            )
    try:
        found = Faults(**rates)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f'faults.{first["loc"][0]}: {first["msg"]}') from None
    total = sum(found.model_dump().values())
    if total > 1 + 1e-9:
        raise UserError(f'faults: the shares {rates} have the sum {total:g}: make it 1 at most')
    return found


def persona_of(name: str) -> Detail:
    """How much a persona tells.

    Raises:
        UserError: an unknown name.
    """
    if name not in PERSONAS:
        raise UserError(
            f'no persona {name!r}{did_you_mean(name, PERSONAS)}; known: {", ".join(PERSONAS)}'
        )
    return PERSONAS[name]


def say(
    persona: str, messages: Sequence[Message], seed: int, faults: Faults, vocabulary: Vocabulary
) -> Said:
    """The answer of a persona, a pure function of its arguments.

    Args:
        persona: name of :data:`PERSONAS`.
        messages: system messages, and the question as the last message of a user.
        seed: another one gives faults to other questions.
        faults: shares.
        vocabulary: an answer is cut between two of its tokens.

    Raises:
        UserError: an unknown persona.
    """
    most = persona_of(persona)
    system = '\n'.join(each['content'] for each in messages if each['role'] == 'system')
    asked = [each['content'] for each in messages if each['role'] == 'user']
    key = digest([persona, list(messages)])
    fault, number = _drawn(seed, key, faults)
    solution = solve(asked[-1] if asked else '', number if fault == 'wrong_step' else None)
    if fault in ('refusal', 'empty'):
        return Said(REFUSAL if fault == 'refusal' else '', 'stop', fault)
    if solution is None:
        return Said(UNKNOWN, 'stop', '')
    wrong = solution.wrong_answer if fault == 'wrong_answer' else None
    text = explanation(solution, min(most, asked_detail(system)), wrong)
    if fault == 'cut':
        return Said(vocabulary.shortened(text, number), 'length', fault)
    return Said(text, 'stop', fault)


def _drawn(seed: int, key: str, faults: Faults) -> tuple[str, int]:
    """Name of a fault or '', and a number that places it."""
    number = seeded_number('world fault', seed, key)
    share, rest = (number % _PARTS) / _PARTS, number // _PARTS % _PARTS
    for name, rate in faults.model_dump().items():
        if share < rate:
            return name, rest
        share -= rate
    return '', rest
