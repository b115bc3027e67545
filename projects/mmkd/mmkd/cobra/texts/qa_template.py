"""The template of questions and answers, see :mod:`mmkd.cobra.texts.templates`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from mmdistill.core.errors import UserError
from mmkd.cobra.schema import CONTEXT, SLOTS, Frame
from mmkd.cobra.texts.escaping import escape
from mmkd.cobra.texts.parsing import ANSWER, QUESTION, ParseReport, parse_official, parse_qa
from mmkd.cobra.texts.slot_templates import in_order, shown
from mmkd.cobra.texts.wording import load_wording
from mmkd.registry import TASK_UTILS


@TASK_UTILS.register_module()
class QATemplate:
    """Questions and answers: ``Q: <question> A: <value>``, one a line.

    Args:
        file: YAML with the wording, see :func:`mmkd.cobra.texts.wording.load_wording`; None: our
            own words.
        parser: ``known`` goes by the questions, and values are escaped; ``official`` goes by
            position, for checkpoints of others and without escapes: see its failures in
            :func:`mmkd.cobra.texts.parsing.parse_official`.

    Raises:
        UserError: there is no such parser, or something is wrong with the file.
    """

    name = 'qa'
    tokens: ClassVar[tuple[str, ...]] = ()
    _markers = re.compile(f'(?={QUESTION}|{ANSWER})')

    def __init__(self, file: str | Path | None = None, parser: str = 'known') -> None:
        if parser not in ('known', 'official'):
            raise UserError(f"parser of QATemplate must be 'known' or 'official', got {parser!r}")
        self.parser = parser
        self.wording = load_wording(file)
        self.questions: dict[str, str] = self.wording.questions.model_dump()

    def source(self, frame: Frame, context: Iterable[str] = CONTEXT) -> str:
        """The frame in the words of the file; slots that are not shown get a stand-in."""
        words = self.wording.source
        given = shown(frame, context)
        if len(given) == 1:
            return words.without_context.format_map(given)
        return words.with_context.format_map({**words.hidden.model_dump(), **given})

    def target(self, frame: Frame, slots: Iterable[str] = SLOTS) -> str:
        """A line for every slot."""
        return '\n'.join(
            f'Q: {self.questions[slot]} A: {self._value(getattr(frame, slot))}'
            for slot in in_order(slots)
        )

    def parse(self, text: str, slots: Iterable[str] = SLOTS) -> ParseReport:
        """The answers, by the parser of the template."""
        if self.parser == 'official':
            return parse_official(text, in_order(slots))
        return parse_qa(text, self.questions, in_order(slots))

    def describe(self) -> dict[str, Any]:
        """Parser and wording."""
        return dict(type='QATemplate', parser=self.parser, wording=self.wording.model_dump())

    def _value(self, value: str) -> str:
        """A value as it stands in the target."""
        return value if self.parser == 'official' else escape(value, self._markers)
