"""Parsers: from the text that a model wrote to the slots of a frame, without a silent shift.

All but :func:`parse_official` go by the name, token or question of a slot, never by position, and
undo the escapes of :mod:`mmkd.cobra.texts.escaping`. White space around a value is dropped. Of a
slot that comes twice the first value counts. They serve any slots: those of a context, too.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from mmkd.cobra.schema import SLOTS
from mmkd.cobra.texts.escaping import any_of, spaced, unescape

SIMILAR = 0.8
"""Ratio of difflib from which on a question counts as a known one."""
QUESTION = r'(?<!\w)Q:'
ANSWER = r'(?<!\w)A:'
CLOSE = '[/]'


@dataclass(frozen=True)
class ParseReport:
    """What was found in a text; slots are in the order in which they were asked for.

    Attributes:
        values: of the slots that were found.
        found: slots that were asked for and are there.
        missing: slots that were asked for and are not.
        duplicated: slots that came more than once.
        extra: texts that belong to no slot that was asked for.
        order_ok: whether the slots came in that order.
    """

    values: dict[str, str]
    found: tuple[str, ...]
    missing: tuple[str, ...]
    duplicated: tuple[str, ...]
    extra: tuple[str, ...]
    order_ok: bool

    @property
    def ok(self) -> bool:
        """Whether every slot came once, in order, and nothing else."""
        return self.order_ok and not (self.missing or self.duplicated or self.extra)

    def explanation(self) -> dict[str, str]:
        """All seven slots; what is missing is empty."""
        return {slot: self.values.get(slot, '') for slot in SLOTS}


class _Piece(NamedTuple):
    """A part of a text: its slot (empty: none), its value, and all of it."""

    slot: str
    value: str
    text: str


class _Mark(NamedTuple):
    """Where a slot begins, and where its value does."""

    slot: str
    start: int
    end: int


def parse_qa(text: str, questions: Mapping[str, str], slots: Iterable[str] = SLOTS) -> ParseReport:
    """Slots of ``Q: <question> A: <value>``.

    A question is a known one if it is equal up to white space, or else similar to one by
    :data:`SIMILAR`. Only known questions end a value: an unknown one stays inside the value that
    it is in, and is reported as extra, too.

    Args:
        text: of a model.
        questions: of every slot that may come.
        slots: that are asked for, in the order in which they should come; others are extra.
    """
    starts = [match.start() for match in re.finditer(QUESTION, text)]
    marks, unknown = [], []
    for start, end in zip(starts, [*starts, len(text)][1:], strict=True):
        answer = re.compile(ANSWER).search(text, start, end)
        slot = answer and _slot_of(text[start + 2 : answer.start()], questions)
        if answer and slot:
            marks.append(_Mark(slot, start, answer.end()))
        elif marks:
            unknown.append(text[start:end])
    return _report([*_pieces(text, marks), *(_Piece('', '', each) for each in unknown)], slots)


def parse_tokens(text: str, tokens: Mapping[str, str], slots: Iterable[str] = SLOTS) -> ParseReport:
    """Slots that begin with a token of their own.

    Args:
        text: of a model, decoded with the tokens.
        tokens: of every slot that may come.
        slots: that are asked for, in the order in which they should come; others are extra.
    """
    names = {token: name for name, token in tokens.items()}
    found = re.finditer(any_of(names), text)
    return _report(_pieces(text, [_Mark(names[m[0]], m.start(), m.end()) for m in found]), slots)


def parse_tagged(text: str, names: Mapping[str, str], slots: Iterable[str] = SLOTS) -> ParseReport:
    """Slots of ``[Name] value[/]``, one a line, with names in any case.

    A value that is not closed ends with its line or at the next known name. Other names are extra,
    as is everything between values.

    Args:
        text: of a model.
        names: of every slot that may come.
        slots: that are asked for, in the order in which they should come; others are extra.
    """
    tags = {f'[{spaced(name)}]'.lower(): slot for slot, name in names.items()}
    marks = list(re.finditer(any_of([*tags, CLOSE]), text, re.IGNORECASE))
    ends = [*(match.start() for match in marks), len(text)][1:]
    pieces = [_Piece('', '', text[: marks[0].start()] if marks else text)]
    for place, (mark, end) in enumerate(zip(marks, ends, strict=True)):
        value, rest = text[mark.end() : end], ''
        if mark[0] == CLOSE:
            pieces.append(_Piece('', '', value))
            continue
        if place + 1 == len(marks) or marks[place + 1][0] != CLOSE:
            value, _, rest = value.strip().partition('\n')
        pieces.append(_Piece(tags[spaced(mark[0]).lower()], value, mark[0] + value))
        pieces.append(_Piece('', '', rest))
    return _report(pieces, slots)


class _Object(dict):
    """A JSON object that remembers keys that come twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def parse_json(text: str, slots: Iterable[str] = SLOTS) -> ParseReport:
    """Slots of a JSON object; a code fence and text around it are no fault.

    An object counts if a slot that is asked for is among its keys; several count as one. Values
    that are no text are extra, as if their slot were missing. JSON has escapes of its own, others
    are not undone.

    Args:
        text: of a model.
        slots: that are asked for, in the order in which they should come; other keys are extra.
    """
    asked = tuple(slots)
    decoder = json.JSONDecoder(object_pairs_hook=_Object, strict=False)
    pairs, place = [], text.find('{')
    while place >= 0:
        try:
            found, end = decoder.raw_decode(text, place)
        except RecursionError:
            break
        except ValueError:
            found, end = {}, place
        counts = not set(asked).isdisjoint(found)
        pairs += found.pairs if counts else []
        place = text.find('{', end if counts else place + 1)
    if not pairs:
        return _report([_Piece('', '', text)], asked)
    pieces = []
    for key, value in pairs:
        whole = f'{key}: {value if isinstance(value, str) else json.dumps(value)}'
        pieces.append(_Piece(key if isinstance(value, str) else '', value, whole))
    return _report(pieces, asked, change=str)


def parse_official(text: str, slots: Iterable[str] = SLOTS) -> ParseReport:
    """Answers by position, in the manner of the code of arXiv:2306.01985; for comparison alone.

    Each ``A: `` up to the next ``Q:`` is an answer, and the n-th one belongs to the n-th slot. So:
    where newlines are kept, only the last answer is found, and goes to the first slot; a value
    with ``Q:`` in it is cut there; one with ``A: `` after that makes an answer more and shifts all
    later ones; and they shift after a segment that is missing, and swap with those that do.
    ``A: `` alone inside a value is harmless. Escapes are not undone.

    Args:
        text: of a model.
        slots: that are expected, in their order; answers beyond them are extra.
    """
    asked = tuple(slots)
    answers = [each.strip() for each in re.findall(r'A: (.*?)(?=Q:|$)', text)]
    count = min(len(answers), len(asked))
    values = dict(zip(asked, answers[:count], strict=False))
    return ParseReport(values, asked[:count], asked[count:], (), tuple(answers[count:]), True)


def _slot_of(question: str, questions: Mapping[str, str]) -> str | None:
    """The slot of a known question, or of the one that is most similar to it."""
    known = {spaced(text): slot for slot, text in questions.items()}
    asked = spaced(question)
    near = [asked] if asked in known else difflib.get_close_matches(asked, known, 1, SIMILAR)
    return known[near[0]] if near else None


def _pieces(text: str, marks: list[_Mark]) -> list[_Piece]:
    """The parts of a text that marks begin, and what comes before the first."""
    ends = [mark.start for mark in marks] + [len(text)]
    return [
        _Piece('', '', text[: ends[0]]),
        *(
            _Piece(mark.slot, text[mark.end : end], text[mark.start : end])
            for mark, end in zip(marks, ends[1:], strict=True)
        ),
    ]


def _report(pieces: list[_Piece], slots: Iterable[str], change: Any = unescape) -> ParseReport:
    """What the parts of a text say about the slots that are asked for."""
    asked = tuple(dict.fromkeys(slots))
    wanted = [piece for piece in pieces if piece.slot in asked]
    others = [piece.text.strip() for piece in pieces if piece.slot not in asked]
    came = list(dict.fromkeys(piece.slot for piece in wanted))
    first = {piece.slot: change(piece.value) for piece in reversed(wanted)}
    found = tuple(slot for slot in asked if slot in came)
    return ParseReport(
        values={slot: first[slot] for slot in found},
        found=found,
        missing=tuple(slot for slot in asked if slot not in found),
        duplicated=tuple(s for s in found if sum(piece.slot == s for piece in wanted) > 1),
        extra=tuple(text for text in others if text),
        order_ok=tuple(came) == found,
    )
