"""What an answer of a teacher is worth: its slots, or why there are none.

The statuses, and the rule that no slot is ever filled with the text of another, complete what COBRA
(arXiv 2306.01985) reports of its data; they are our own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from mmkd.cobra.generation.answer_slots import read_slots, whole_tagged
from mmkd.cobra.generation.demonstrations import words_of
from mmkd.cobra.generation.prompt_texts import COMPLETE
from mmkd.cobra.generation.prompting import PromptBuilder, prompt_hash
from mmkd.cobra.schema import Provenance
from mmkd.cobra.texts.parsing import CLOSE, ParseReport
from mmkd.traces.filters.answers import RefusedAnswer
from mmkd.traces.schema import Trace

OK, REFUSED, MALFORMED, INCOMPLETE = 'ok', 'refused', 'malformed', 'incomplete'
ECHO, TOO_LONG, STATEMENT, FAILED = 'echo', 'too_long', 'incomplete_statement', 'failed'
STATUSES = (OK, REFUSED, MALFORMED, INCOMPLETE, ECHO, TOO_LONG, STATEMENT, FAILED)
"""Of an answer; ``incomplete`` is followed by the slots, as in ``incomplete:power,cognitive``.

``refused``: the teacher or its endpoint declines. ``malformed``: not of the form that was asked
for. ``incomplete``: slots are missing or empty. ``echo``: a slot is the statement, or all of them
are those of a demonstration. ``too_long``: the prompt is, or the answer was cut.
``incomplete_statement``: the teacher says that the statement is. ``failed``: there is no answer.
"""
NOTHING = frozenset({'', 'none', 'n a', 'na', 'null'})
"""Words of what is no context of a pair; the published pairs were cleaned of such, too."""
_DECLINED = ('content_filter', 'refusal')
_FILTERED = re.compile(r'content[ _](management[ _])?(filter|policy)', re.IGNORECASE)


@dataclass(frozen=True)
class Answer:
    """An answer.

    Attributes:
        status: see :data:`STATUSES`.
        values: slots, without the one that tells whether the statement is complete; empty where
            the status is not ``ok``.
        provenance: of the call.
    """

    status: str
    values: Mapping[str, str]
    provenance: Provenance


def read_answer(trace: Trace, builder: PromptBuilder, statement: str) -> Answer:
    """Slots and status of a row.

    Args:
        trace: of a query of ``builder``.
        builder: of the kind of call.
        statement: that was asked about.
    """
    report = read_slots(trace.response_text, builder)
    status = status_of(trace, report, builder, statement)
    values = {slot: text for slot, text in report.values.items() if slot != COMPLETE}
    provenance = Provenance(
        model=trace.teacher,
        prompt_hash=prompt_hash(trace),
        sampling=trace.sampling.model_dump_json(),
        status=status,
        attempts=trace.attempts,
    )
    return Answer(status, values if status == OK else {}, provenance)


def status_of(trace: Trace, report: ParseReport, builder: PromptBuilder, statement: str) -> str:
    """One of :data:`STATUSES`.

    Args:
        trace: of a query of ``builder``.
        report: what was read from its answer.
        builder: of the kind of call.
        statement: that was asked about.
    """
    if trace.status == FAILED and _FILTERED.search(trace.error):
        return REFUSED
    if trace.status in (FAILED, TOO_LONG):
        return trace.status
    fault = _fault(trace, report, builder)
    if _is_refusal(trace, report, bool(fault)):
        return REFUSED
    if fault and trace.status == 'truncated':
        return TOO_LONG
    if fault != MALFORMED and _says(report.values, 'no'):
        return STATEMENT
    if fault:
        return fault
    return ECHO if _is_echo(report, builder, statement) else OK


def _fault(trace: Trace, report: ParseReport, builder: PromptBuilder) -> str:
    """``malformed`` or ``incomplete:<slots>``; empty where there is neither."""
    restated = trace.user_text.rpartition('\n\n')[2]
    strange = builder.form == 'tagged' and any(each not in restated for each in report.extra)
    if not report.found or report.duplicated or strange:
        return MALFORMED
    missing = [slot for slot in builder.call.asked if _is_empty(slot, report, builder)]
    if missing:
        return f'{INCOMPLETE}:{",".join(missing)}'
    if COMPLETE in report.values and not _says(report.values, 'yes|no'):
        return MALFORMED
    is_cut = trace.status == 'truncated' and builder.form == 'tagged'
    return MALFORMED if is_cut and not _is_closed(trace.response_text, builder) else ''


def _is_empty(slot: str, report: ParseReport, builder: PromptBuilder) -> bool:
    """Whether there is nothing in a slot; a word for nothing is enough in a context of a pair."""
    text = report.values.get(slot, '')
    return not text.strip() or (
        builder.kind == 'counterfactual' and words_of(text).strip() in NOTHING
    )


def _says(values: Mapping[str, str], words: str) -> bool:
    """Whether the statement is said to be complete (``yes``) or not (``no``)."""
    return bool(re.match(rf'\W*({words})\b', values.get(COMPLETE, ''), re.IGNORECASE))


def _is_closed(text: str, builder: PromptBuilder) -> bool:
    """Whether the last value of a tagged answer has its end."""
    return whole_tagged(text, builder).endswith(CLOSE)


def _is_refusal(trace: Trace, report: ParseReport, is_faulty: bool) -> bool:
    """Whether the endpoint or the teacher declines; words of refusal may occur in a sound answer.

    An answer of the right form is a refusal if each of its slots begins with words of one.
    """
    if trace.status == REFUSED or trace.finish_reason in _DECLINED:
        return True
    if is_faulty:
        return _refusals().objects_to(trace)
    texts = [text for slot, text in report.values.items() if slot != COMPLETE]
    rows = [trace.model_copy(update=dict(response_text=text)) for text in texts]
    return bool(rows) and all(map(_refusals(within=1).objects_to, rows))


@lru_cache(maxsize=2)
def _refusals(**options: int) -> RefusedAnswer:
    """Knows how refusals begin."""
    return RefusedAnswer(**options)


def _is_echo(report: ParseReport, builder: PromptBuilder, statement: str) -> bool:
    """Whether a slot is the statement, or all slots are those of a demonstration."""
    said = {slot: words_of(text) for slot, text in report.values.items() if slot != COMPLETE}
    if not said:
        return False
    if words_of(statement).strip() and words_of(statement) in said.values():
        return True
    return any(
        all(words_of(each.values[slot]) == text for slot, text in said.items())
        for each in builder.chosen(statement)
    )
