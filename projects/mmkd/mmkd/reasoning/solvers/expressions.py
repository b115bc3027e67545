"""Expressions of numbers or truth values that are read from left to right."""

from __future__ import annotations

import operator
import re

from mmkd.reasoning.chain import Method, Reading

_NUMBERS = {'+': operator.add, '-': operator.sub, '*': operator.mul}
_TRUTHS = {'and': operator.and_, 'or': operator.or_, 'xor': operator.xor}


def _reader(operand: str, sign: str) -> re.Pattern[str]:
    """Finds an expression."""
    return re.compile(rf'(?:\( )*{operand}(?: {sign} {operand}(?: \))?)+')


def _terms(text: str, operand: str, sign: str) -> tuple[str, list[tuple[str, str]]] | None:
    """First operand, and sign and operand of every step; None: brackets are elsewhere."""
    found = _reader(operand, sign).search(text)
    if not found:
        return None
    first, *rest = re.split(rf' ({sign}) ', re.sub(r'\( | \)', '', found[0]))
    pairs = list(zip(rest[::2], rest[1::2], strict=True))
    opened = '( ' * (len(pairs) - 1)
    closed = f' {pairs[0][0]} {pairs[0][1]}' + ''.join(f' ) {s} {o}' for s, o in pairs[1:])
    return (first, pairs) if found[0] == opened + first + closed else None


def _read_numbers(text: str) -> Reading | None:
    """Of ``( 3 + 4 ) * 2``."""
    found = _terms(text, r'\d+', r'[-+*]')
    return found and Reading(int(found[0]), tuple((s, int(o)) for s, o in found[1]))


def _read_truths(text: str) -> Reading | None:
    """Of ``( true and not false ) or true``."""
    found = _terms(text, r'(?:not )?(?:true|false)', r'(?:and|xor|or)')
    return found and Reading(found[0] == 'true', tuple(found[1]))


def _truth(text: str) -> bool:
    """Of an operand."""
    return text in ('true', 'not false')


def _word(value: bool) -> str:
    """Of a truth value."""
    return 'true' if value else 'false'


def _tell_truth(state: bool, action: tuple[str, str]) -> str:
    """``true and not false: true and true =``, the first part for negated operands alone."""
    sign, operand = action
    plain = f'{_word(state)} {sign} {_word(_truth(operand))} ='
    return f'{_word(state)} {sign} {operand}: {plain}' if operand.startswith('not') else plain


ARITHMETIC = Method(
    'arithmetic',
    read=_read_numbers,
    apply=lambda state, action: _NUMBERS[action[0]](state, action[1]),
    tell=lambda state, action: f'{state} {action[0]} {action[1]} =',
    show=str,
    wrong=lambda state: state + 1,
    answer=lambda state, ask: str(state),
)
BOOLEAN = Method(
    'boolean',
    read=_read_truths,
    apply=lambda state, action: _TRUTHS[action[0]](state, _truth(action[1])),
    tell=_tell_truth,
    show=_word,
    wrong=operator.not_,
    answer=lambda state, ask: _word(state),
)
