"""Templates: how a frame becomes the text that a student reads, and the one that it writes.

Students of arXiv:2306.01985 read a statement with its context and write the seven slots in one
text. All templates of our own are bijective: markers inside a value are escaped, see
:mod:`mmkd.cobra.texts.escaping`, and ``parse(target(frame))`` gives every value back; after a
tokenizer that collapses white space, as T5's does, up to white space. Where it also folds
characters (NFKC), a value can turn into a marker; the report then shows a slot as duplicated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

from mmdistill.core.errors import UserError, did_you_mean
from mmkd.cobra.schema import CONTEXT, SLOTS, Frame
from mmkd.cobra.texts.parsing import ParseReport
from mmkd.cobra.texts.qa_template import QATemplate
from mmkd.cobra.texts.slot_templates import JsonTemplate, SlotTokenTemplate, TaggedTemplate
from mmkd.registry import TASK_UTILS


@runtime_checkable
class FrameTemplate(Protocol):
    """How frames are written and read.

    Attributes:
        name: short name.
        tokens: texts to be added to a tokenizer as tokens, and not as special ones, which are
            skipped in decoding.
    """

    name: str
    tokens: tuple[str, ...]

    def source(self, frame: Frame, context: Iterable[str] = CONTEXT) -> str:
        """What a student reads.

        Args:
            frame: with a statement.
            context: slots that are shown; with none of them the text is the same in all contexts.
        """

    def target(self, frame: Frame, slots: Iterable[str] = SLOTS) -> str:
        """What it should write: the slots, in canonical order."""

    def parse(self, text: str, slots: Iterable[str] = SLOTS) -> ParseReport:
        """What it wrote."""

    def describe(self) -> dict[str, Any]:
        """What the texts depend on, as JSON has it."""


TEMPLATES: dict[str, type] = {
    kind.name: kind for kind in (QATemplate, SlotTokenTemplate, TaggedTemplate, JsonTemplate)
}


def frame_template(given: str | Mapping[str, Any] | FrameTemplate) -> FrameTemplate:
    """A template by name, of a config, or as it is.

    Args:
        given: name of :data:`TEMPLATES`, or a config with a ``type`` of the registry.

    Raises:
        UserError: an unknown name, or a type that is no template.
    """
    if isinstance(given, str):
        if given not in TEMPLATES:
            raise UserError(
                f'there is no frame template {given!r}{did_you_mean(given, TEMPLATES)}; known: '
                f'{", ".join(TEMPLATES)}'
            )
        return TEMPLATES[given]()
    known = [each.__name__ for each in TEMPLATES.values()]
    built = given
    if isinstance(given, Mapping):
        kind = given.get('type')
        if kind is None or isinstance(kind, str) and TASK_UTILS.get(kind) is None:
            near = did_you_mean(str(kind).removeprefix('mmkd.'), known)
            raise UserError(f'there is no frame template of type {kind!r}{near}; known: {known}')
        built = TASK_UTILS.build(dict(given))
    if not isinstance(built, FrameTemplate):
        raise UserError(f'{given!r} makes no frame template; known types: {known}')
    return built
