"""Things that are counted, and brackets that are closed."""

from __future__ import annotations

import re

from mmkd.reasoning.chain import Method, Reading
from mmkd.reasoning.words import BRACKETS, KINDS

_KIND_OF = {sort: kind for kind, sorts in KINDS.items() for sort in sorts}
Thing = tuple[int, str, bool]
"""How many, of what, and whether they count."""


def _read_things(text: str) -> Reading | None:
    """Of things that somebody sees."""
    found = re.match(r'I see (.+?)\. (.+)', text)
    kinds = re.findall('|'.join(KINDS), found[2]) if found else []
    if len(kinds) != 1:
        return None
    things = re.findall(r'(\d+) (\w+)', found[1])
    return Reading(0, tuple((int(n), sort, _KIND_OF.get(sort) == kinds[0]) for n, sort in things))


def _tell_thing(total: int, thing: Thing) -> str:
    """``2 apples are fruits: 3 + 2 =``, or ``4 dogs are animals: 3 + 0 =``."""
    count, sort, counts = thing
    return f'{count} {sort} are {_KIND_OF.get(sort)}: {total} + {count if counts else 0} ='


def _read_brackets(text: str) -> Reading | None:
    """Of brackets behind a colon."""
    found = re.fullmatch(r'[^:]*\b(?:[Cc]lose|end)\b[^:]*:((?: [()\[\]{}])+)', text)
    return Reading((), tuple(found[1].split())) if found else None


def _needed(state: tuple[str, ...], symbol: str) -> tuple[str, ...]:
    """What closes all that is open, the next one first."""
    return (BRACKETS[symbol], *state) if symbol in BRACKETS else state[1:]


def _other_kind(state: tuple[str, ...]) -> tuple[str, ...]:
    """Another bracket comes first."""
    ends = list(BRACKETS.values())
    if not state:
        return (ends[0],)
    return (ends[(ends.index(state[0]) + 1) % len(ends)], *state[1:])


def _bracket_text(state: tuple[str, ...]) -> str:
    """``] )``, or ``nothing``."""
    return ' '.join(state) or 'nothing'


COUNTING = Method(
    'counting',
    read=_read_things,
    apply=lambda total, thing: total + thing[0] * thing[2],
    tell=_tell_thing,
    show=str,
    wrong=lambda total: total + 1,
    answer=lambda total, ask: str(total),
)
BRACKET_ENDS = Method(
    'brackets',
    read=_read_brackets,
    apply=_needed,
    tell=lambda state, symbol: f'{symbol} leaves',
    show=_bracket_text,
    wrong=_other_kind,
    answer=lambda state, ask: _bracket_text(state),
)
