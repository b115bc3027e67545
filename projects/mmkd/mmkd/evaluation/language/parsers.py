"""Answers in replies, as pure functions from a text to a label, or to None where there is none.

``first_capital`` is Orca's parser as it is told of (arXiv:2306.02707): it takes the B of "Based on"
for an answer. The other two are our own.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

_SAYS = r"""(?i:\banswer\b[\s*_"']*(?:is|was|:|=|(?:w|sh)ould\s+be|must\s+be)[\s:*_"'$]*)"""
_NAMES = r'(?i:(?:the\s+)?(?:correct\s+|right\s+)?(?:option|choice|letter)[\s:*_"\']+)'
_ENDS = r'(?=[\s*_"\'$]*(?:[.,;:)\]!?]|$))'
_WRAPPING = ' "\'`*_$“”‘’'


def first_capital(response: str, labels: Sequence[str]) -> str | None:
    """The first capital letter that is a label, wherever it stands.

    Labels that are words (``Yes``, ``No``) have no letter; there it is the first word that is a
    label, in any case, which is our own completion.

    Args:
        response: the reply.
        labels: ``A``, ``B``, ... or words.
    """
    if _letters(labels):
        return next((each for each in response if each in labels), None)
    found = _words(tuple(labels)).search(response)
    return _label(found.group(), labels) if found else None


def anchored(response: str, labels: Sequence[str]) -> str | None:
    """The label that a reply names as one.

    The last "answer is X" wins, in any case; then the first letter in brackets; then the first
    capital letter that stands alone, where "A" and "I" need a mark or the end of the line behind
    them, or "option" before them. Words need "answer is" too, or a mark or the end of the line
    behind the first word, or to be the only label in the reply.

    Args:
        response: the reply.
        labels: ``A``, ``B``, ... or words.
    """
    patterns = _letter_patterns if _letters(labels) else _word_patterns
    said, *others = patterns(tuple(labels))
    found = [match[match.lastindex] for match in said.finditer(response)][-1:]
    for pattern in others:
        found += [match[match.lastindex] for match in [pattern.search(response)] if match]
    if found:
        return _label(found[0], labels)
    if _letters(labels):
        return None
    named = {_label(match.group(), labels) for match in _words(tuple(labels)).finditer(response)}
    return named.pop() if len(named) == 1 else None


def free_text(response: str) -> str | None:
    """The normalised text behind the last "answer is", to the end of its sentence or line.

    A reply of one line without these words is an answer as a whole.

    Args:
        response: the reply.
    """
    said = list(re.finditer(_SAYS, response))
    if said:
        text = response[said[-1].end() :].partition('\n')[0]
    elif len(response.strip().splitlines()) == 1:
        text = response.strip()
    else:
        return None
    return normalised(re.split(r'\.(?=\s|$)', text)[0]) or None


def normalised(text: str) -> str:
    """A text for comparison: no case, single spaces, no quotes, marks of emphasis or full stop."""
    plain = ' '.join(unicodedata.normalize('NFKC', text).casefold().split())
    return plain.strip(_WRAPPING).rstrip('.' + _WRAPPING)


def _letters(labels: Sequence[str]) -> bool:
    """Whether labels are capital letters."""
    return all(len(each) == 1 and each.isupper() for each in labels)


def _label(found: str, labels: Sequence[str]) -> str:
    """The label that a text is in another case."""
    return next(each for each in labels if each.casefold() == found.casefold())


@lru_cache(maxsize=64)
def _letter_patterns(labels: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    """Letters behind "answer is", in brackets, and alone."""
    capital = ''.join(labels)
    either = capital + capital.lower()
    bracket = rf'[(\[{{]\s*([{either}])\s*[)\]}}]'
    alone = rf"(?<![\w'’-])([{capital}])(?![\w'’-])"
    word = rf"(?<![\w'’-])([{capital}])(?<![AI])(?![\w'’-])"
    small = rf'([{either}])(?![\w\'’-]){_ENDS}'
    return tuple(
        re.compile(text, re.MULTILINE)
        for text in (
            rf'{_SAYS}{_NAMES}?(?:\\boxed)?(?:{bracket}|{alone}|{small})',
            bracket,
            rf"(?:{_NAMES}{alone}|{word}|(?<![\w'’-])([{capital}]){_ENDS}|\A\s*{small})",
        )
    )


@lru_cache(maxsize=64)
def _words(labels: tuple[str, ...]) -> re.Pattern[str]:
    """Labels as whole words, in any case."""
    longest = sorted(labels, key=len, reverse=True)
    return re.compile(rf'(?i:(?<!\w)(?:{"|".join(map(re.escape, longest))})(?!\w))')


@lru_cache(maxsize=64)
def _word_patterns(labels: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    """Words behind "answer is", and at the start."""
    word = rf'[(\[]?({_words(labels).pattern})'
    return (
        re.compile(_SAYS + word, re.MULTILINE),
        re.compile(rf'\A[\s*_"\'(\[]*{word}{_ENDS}', re.MULTILINE),
    )
