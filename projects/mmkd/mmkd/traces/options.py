"""Options that a question lists, as FLAN writes them: a line ``OPTIONS:``, then one a line."""

from __future__ import annotations

import re

_HEAD = r'^[ \t]*(?:options|choices|possible answers|answer choices)[ \t]*:[ \t]*'
_LETTERED = r'\(?([A-Za-z])[).:][ \t]+(\S.*)'
_LISTED = r'[-*•][ \t]*(\S.*)'
_BLOCK = re.compile(
    rf'{_HEAD}((?:\s*^[ \t]*(?:{_LETTERED}|{_LISTED})$)+)', re.IGNORECASE | re.MULTILINE
)


def listed_options(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Letters and texts of the options in the last block of a question.

    Letters are capitals, and empty where lines begin with a mark instead; both are empty where
    there is no block of two options or more.

    Args:
        text: the question.
    """
    blocks = list(_BLOCK.finditer(text.replace('\r\n', '\n')))
    if not blocks:
        return (), ()
    lines = [line.strip() for line in blocks[-1][1].splitlines() if line.strip()]
    lettered = [re.fullmatch(_LETTERED, line) for line in lines]
    if len(lines) < 2:
        return (), ()
    if all(lettered):
        return tuple(each[1].upper() for each in lettered), tuple(each[2] for each in lettered)
    return (), tuple(re.sub(r'^[-*•][ \t]*', '', line) for line in lines)


def is_multiple_choice(template_type: str, text: str) -> bool:
    """Whether a question lists options: what its template says, or else what its text shows.

    Args:
        template_type: ``zs_opt``, ``zs_noopt``, ``fs_opt``, ``fs_noopt``, or another word.
        text: the question.
    """
    if template_type.endswith(('_opt', '_noopt')):
        return template_type.endswith('_opt')
    return bool(listed_options(text)[1])
