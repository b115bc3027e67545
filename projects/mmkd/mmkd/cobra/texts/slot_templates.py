"""Templates that mark every slot by its own token, name or key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from mmdistill.core.errors import UserError, did_you_mean, options_of
from mmkd.cobra.schema import CONTEXT, SLOTS, Frame
from mmkd.cobra.texts.escaping import any_of, breakable, escape, spaced
from mmkd.cobra.texts.parsing import (
    CLOSE,
    ParseReport,
    parse_json,
    parse_tagged,
    parse_tokens,
)
from mmkd.registry import TASK_UTILS

TOKENS = dict(
    situation='<sit>',
    speaker='<spk>',
    listener='<lis>',
    statement='<sta>',
    intent='<int>',
    target_group='<tgr>',
    power='<pow>',
    implication='<imp>',
    emotional='<emo>',
    cognitive='<cog>',
    offensiveness='<off>',
)
"""Tokens of :class:`SlotTokenTemplate`."""
NAMES = dict(
    situation='Situation',
    speaker='Speaker',
    listener='Listener',
    statement='Statement',
    intent='Intent',
    target_group='Target group',
    power='Power',
    implication='Implication',
    emotional='Emotional effect',
    cognitive='Lasting effect',
    offensiveness='Offensiveness',
)
"""Names of :class:`TaggedTemplate`."""


def in_order(names: Iterable[str], known: tuple[str, ...] = SLOTS) -> tuple[str, ...]:
    """The names in the order of ``known``.

    Raises:
        UserError: one that is not known.
    """
    chosen = set(names)
    for name in sorted(chosen - set(known)):
        raise UserError(
            f'there is no slot {name!r}{did_you_mean(name, known)}; known: {", ".join(known)}'
        )
    return tuple(name for name in known if name in chosen)


def shown(frame: Frame, context: Iterable[str]) -> dict[str, str]:
    """The slots of the context that are shown, and the statement."""
    return {name: getattr(frame, name) for name in (*in_order(context, CONTEXT), 'statement')}


@TASK_UTILS.register_module()
class SlotTokenTemplate:
    """A token before every value, as in ``<int> praise <tgr> the listener``; our own completion.

    Args:
        tokens: by slot, where they differ from :data:`TOKENS`.

    Raises:
        UserError: an unknown slot, the same token twice, or one that escapes could not break.
    """

    name = 'tokens'

    def __init__(self, tokens: Mapping[str, str] | None = None) -> None:
        self.by_slot = options_of('tokens of SlotTokenTemplate', tokens, TOKENS)
        for slot, token in self.by_slot.items():
            if not breakable(token) or token.split() != [token]:
                raise UserError(
                    f'tokens of SlotTokenTemplate: {slot}: {token!r} is no token: take two or more '
                    'characters without white space, and no | or . at its ends or next to a |'
                )
        _check_unique('tokens of SlotTokenTemplate', self.by_slot)
        self.tokens = tuple(self.by_slot.values())
        self._markers = re.compile(f'(?={any_of(self.tokens)})')

    def source(self, frame: Frame, context: Iterable[str] = CONTEXT) -> str:
        """Tokens and texts of what is shown, the statement last."""
        return self._written(shown(frame, context))

    def target(self, frame: Frame, slots: Iterable[str] = SLOTS) -> str:
        """Tokens and values."""
        return self._written({slot: getattr(frame, slot) for slot in in_order(slots)})

    def parse(self, text: str, slots: Iterable[str] = SLOTS) -> ParseReport:
        """The values by their tokens."""
        return parse_tokens(text, self.by_slot, in_order(slots))

    def describe(self) -> dict[str, Any]:
        """The tokens."""
        return dict(type='SlotTokenTemplate', tokens=self.by_slot)

    def _written(self, values: Mapping[str, str]) -> str:
        """Texts behind their tokens."""
        return ' '.join(
            f'{self.by_slot[slot]} {escape(value, self._markers)}' for slot, value in values.items()
        )


@TASK_UTILS.register_module()
class TaggedTemplate:
    """A line ``[Name] value[/]`` for every slot, as teachers that complete text were asked.

    Args:
        names: by slot, where they differ from :data:`NAMES`.

    Raises:
        UserError: an unknown slot, the same name twice, or one with brackets or a pipe.
    """

    name = 'tagged'
    tokens: ClassVar[tuple[str, ...]] = ()

    def __init__(self, names: Mapping[str, str] | None = None) -> None:
        given = options_of('names of TaggedTemplate', names, NAMES)
        self.names = {slot: spaced(name) for slot, name in given.items()}
        for slot, name in self.names.items():
            if not name or set(name) & set('[]|') or name == '/':
                raise UserError(
                    f'names of TaggedTemplate: {slot}: {name!r} is no name: take a word or more '
                    'without brackets and pipes'
                )
        _check_unique('names of TaggedTemplate', {k: v.lower() for k, v in self.names.items()})
        tags = any_of([CLOSE, *(f'[{name}]' for name in self.names.values())])
        self._markers = re.compile(f'(?={tags})', re.IGNORECASE)

    def source(self, frame: Frame, context: Iterable[str] = CONTEXT) -> str:
        """Lines of what is shown, the statement last."""
        return self._written(shown(frame, context))

    def target(self, frame: Frame, slots: Iterable[str] = SLOTS) -> str:
        """A line for every slot."""
        return self._written({slot: getattr(frame, slot) for slot in in_order(slots)})

    def parse(self, text: str, slots: Iterable[str] = SLOTS) -> ParseReport:
        """The values by their names."""
        return parse_tagged(text, self.names, in_order(slots))

    def describe(self) -> dict[str, Any]:
        """The names."""
        return dict(type='TaggedTemplate', names=self.names)

    def _written(self, values: Mapping[str, str]) -> str:
        """Texts between their names and ends."""
        return '\n'.join(
            f'[{self.names[slot]}] {escape(value, self._markers)}{CLOSE}'
            for slot, value in values.items()
        )


@TASK_UTILS.register_module()
class JsonTemplate:
    """A JSON object on one line, for students and teachers that know JSON.

    T5's vocabulary has no braces, they become unknown tokens: take another template there.
    """

    name = 'json'
    tokens: ClassVar[tuple[str, ...]] = ()

    def source(self, frame: Frame, context: Iterable[str] = CONTEXT) -> str:
        """An object of what is shown, the statement last."""
        return json.dumps(shown(frame, context), ensure_ascii=False)

    def target(self, frame: Frame, slots: Iterable[str] = SLOTS) -> str:
        """An object of the slots."""
        values = {slot: getattr(frame, slot) for slot in in_order(slots)}
        return json.dumps(values, ensure_ascii=False)

    def parse(self, text: str, slots: Iterable[str] = SLOTS) -> ParseReport:
        """The values by their keys."""
        return parse_json(text, in_order(slots))

    def describe(self) -> dict[str, Any]:
        """The type is all there is."""
        return dict(type='JsonTemplate')


def _check_unique(what: str, texts: Mapping[str, str]) -> None:
    """Refuses the same text for two slots."""
    seen: dict[str, str] = {}
    for slot, text in texts.items():
        other = seen.setdefault(text, slot)
        if other != slot:
            raise UserError(f'{what}: {slot} and {other} are both {text!r}')
