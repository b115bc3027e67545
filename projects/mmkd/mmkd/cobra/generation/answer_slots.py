"""Slots of any kind of call from the text of a teacher."""

from __future__ import annotations

import re

from mmkd.cobra.generation.prompting import PromptBuilder
from mmkd.cobra.texts.escaping import any_of
from mmkd.cobra.texts.parsing import CLOSE, ParseReport, parse_json, parse_tagged


def read_slots(text: str, builder: PromptBuilder) -> ParseReport:
    """What an answer has of the slots that were asked for.

    JSON that was asked for may come as tagged text. A tagged answer may go on from the name at the
    end of the prompt or repeat it, and may have text before its first and after its last line.

    Args:
        text: of the teacher.
        builder: of the kind of call.
    """
    asked = builder.call.asked
    if builder.form == 'json':
        report = parse_json(text, asked)
        if report.found or '{' in text:
            return report
    return parse_tagged(whole_tagged(text, builder), _names(builder), asked)


def whole_tagged(text: str, builder: PromptBuilder) -> str:
    """A tagged answer from its first name on, and without what comes after its last line.

    The first name is put back where the answer goes on from it: if a value is closed before any
    name comes, or if there is no name at all and only one slot.
    """
    tag = re.compile(any_of(f'[{name}]' for name in _names(builder).values()), re.IGNORECASE)
    found, close = tag.search(text), text.find(CLOSE)
    start = found.start() if found else len(text)
    if 0 <= close < start or (not found and len(builder.call.asked) == 1):
        text = f'[{builder.texts.names[builder.call.asked[0]]}] {text.lstrip()}'
    else:
        text = text[start:]
    last = text.rfind(CLOSE) + len(CLOSE)
    is_last = last >= len(CLOSE) and not tag.search(text, last)
    return text[:last] if is_last else text


def _names(builder: PromptBuilder) -> dict[str, str]:
    """Names of the slots that are given or asked for."""
    return {slot: builder.texts.names[slot] for slot in (*builder.call.given, *builder.call.asked)}
