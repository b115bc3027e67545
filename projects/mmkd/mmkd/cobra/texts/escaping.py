"""Escapes: what a template's markers look like inside a value, so that no value can end itself.

A pipe is doubled, and :data:`GUARD`, which stands for nothing, breaks every marker after its first
character and keeps white space at the ends. The characters are common in web text, so that
vocabularies such as T5's, which lacks the backslash, should hold them; guards and markers survive
when white space is collapsed. Text that was never escaped keeps its single pipes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

GUARD = '|.'
_ESCAPED = re.compile(r'\|([|.])')


def spaced(text: str) -> str:
    """The text with each run of white space as one space, and none at its ends."""
    return ' '.join(text.split())


def any_of(markers: Iterable[str]) -> str:
    """A regular expression of texts, the longest first, whose white space may be any."""
    ordered = sorted(markers, key=len, reverse=True)
    return '|'.join(r'\s+'.join(map(re.escape, each.split())) for each in ordered)


def breakable(marker: str) -> bool:
    """Whether a guard keeps the marker out of every escaped value."""
    inside = '||' not in marker and GUARD not in marker
    return len(marker) > 1 and inside and marker[0] not in '|.' and marker[-1] != '|'


def escape(value: str, markers: re.Pattern[str] | None = None) -> str:
    """The value as it stands in a linearised frame.

    Args:
        value: any text.
        markers: matches, without taking any text, where one of the markers begins.
    """
    parts, last = [], 0
    for match in markers.finditer(value) if markers else ():
        parts.append(value[last : match.start() + 1])
        last = match.start() + 1
    text = GUARD.join(part.replace('|', '||') for part in (*parts, value[last:]))
    first, end = (GUARD if each.isspace() else '' for each in (value[:1], value[-1:]))
    return first + text + end


def unescape(text: str) -> str:
    """The value of :func:`escape`, whatever the markers; white space around the text is dropped."""
    return _ESCAPED.sub(lambda found: found[1].replace('.', ''), text.strip())
