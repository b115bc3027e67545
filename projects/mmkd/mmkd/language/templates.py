"""Templates: how a system message and a question become the prompt of a language model.

Orca's own template is not known; these are common ones. A template gives pieces of text: its own
markup, in which special tokens count as such, and the texts of a user, in which they are ordinary
characters, so that nobody ends a turn by writing ``<|im_end|>``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple

from mmdistill.core.errors import UserError, did_you_mean
from mmkd.traces.schema import Message

EMPTY_SYSTEM = ('omit', 'keep')


class Piece(NamedTuple):
    """A part of a prompt that is tokenized by itself.

    Attributes:
        text: of the part.
        markup: whether special tokens in it count as such.
    """

    text: str
    markup: bool


def _check_empty_system(name: str, value: str) -> None:
    """Refuses unknown switches."""
    if value not in EMPTY_SYSTEM:
        raise UserError(f'empty_system of template {name!r} is {value!r}, not one of omit and keep')


@dataclass(frozen=True)
class TextTemplate:
    """Texts around the system message, the question and the answer.

    Attributes:
        name: of the template.
        system: texts before and after the system message.
        user: texts before and after the question.
        response: text before the answer.
        ending: token that ends an answer; None: the tokenizer's EOS.
        empty_system: ``omit`` leaves out the turn of an empty system message, ``keep`` leaves it
            empty.
        tokens: texts that must be single tokens of the tokenizer.
    """

    name: str
    system: tuple[str, str]
    user: tuple[str, str]
    response: str
    ending: str | None = None
    empty_system: str = 'omit'
    tokens: tuple[str, ...] = ()
    with_bos = True
    """Whether a prompt begins with the BOS of a tokenizer that adds one."""

    def __post_init__(self) -> None:
        for key in ('system', 'user'):
            pair = getattr(self, key)
            if isinstance(pair, str) or len(pair) != 2:
                raise UserError(
                    f'{key} of template {self.name!r} must be two texts, before and after, got '
                    f'{pair!r}'
                )
            object.__setattr__(self, key, tuple(pair))
        _check_empty_system(self.name, self.empty_system)

    def pieces(self, tokenizer: Any, system: str, user: str) -> list[Piece]:
        """The parts of a prompt, up to where the answer begins.

        Args:
            tokenizer: not needed.
            system: message; may be empty.
            user: question.
        """
        turns = [(self.user, user)]
        if system or self.empty_system == 'keep':
            turns.insert(0, (self.system, system))
        found = []
        for (before, after), text in turns:
            found += [Piece(before, True), Piece(text, False), Piece(after, True)]
        return [*found, Piece(self.response, True)]

    def describe(self, tokenizer: Any) -> dict[str, Any]:
        """What prompts depend on, as JSON has it."""
        return {key: _plain(value) for key, value in asdict(self).items()}


@dataclass(frozen=True)
class OwnTemplate:
    """The chat template of the tokenizer, written out and tokenized in one piece.

    So prompts are those of a server that applies the same template; special tokens in a user's
    texts count, as they do there.

    Attributes:
        name: ``tokenizer``.
        ending: token that ends an answer; None: the tokenizer's EOS.
        empty_system: ``omit`` gives no system message instead of an empty one, for which some
            templates write a message of their own; ``keep`` gives the empty one.
    """

    name: str = 'tokenizer'
    ending: str | None = None
    empty_system: str = 'omit'
    tokens = ()
    with_bos = False

    def __post_init__(self) -> None:
        _check_empty_system(self.name, self.empty_system)

    def pieces(self, tokenizer: Any, system: str, user: str) -> list[Piece]:
        """The prompt as one part, up to where the answer begins.

        Raises:
            UserError: the tokenizer has no chat template, or it refuses the messages.
        """
        from jinja2 import TemplateError

        messages: list[Message] = [dict(role='user', content=user)]
        if system or self.empty_system == 'keep':
            messages.insert(0, dict(role='system', content=system))
        _chat_template(tokenizer)
        try:
            text = tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        except TemplateError as error:
            roles = ' and '.join(each['role'] for each in messages)
            raise UserError(
                f"the tokenizer's chat template refuses the messages of {roles}: {error}; use "
                'the template plain or chatml'
            ) from None
        return [Piece(text, True)]

    def describe(self, tokenizer: Any) -> dict[str, Any]:
        """What prompts depend on, as JSON has it."""
        text = str(_chat_template(tokenizer))
        return dict(asdict(self), chat_template=hashlib.sha256(text.encode()).hexdigest())


Template = TextTemplate | OwnTemplate

PLAIN = TextTemplate('plain', ('System:\n', '\n\n'), ('User:\n', '\n\n'), 'Response:\n')
CHATML = TextTemplate(
    'chatml',
    ('<|im_start|>system\n', '<|im_end|>\n'),
    ('<|im_start|>user\n', '<|im_end|>\n'),
    '<|im_start|>assistant\n',
    tokens=('<|im_start|>', '<|im_end|>'),
)
TEMPLATES: dict[str, Template] = {each.name: each for each in (PLAIN, CHATML, OwnTemplate())}


def template_of(given: str | Mapping[str, Any] | Template) -> Template:
    """A template by name or description.

    Args:
        given: name of :data:`TEMPLATES`; or a mapping with ``name`` and what differs from it; or
            with another name and all of ``system``, ``user`` and ``response``, see
            :class:`TextTemplate`.

    Raises:
        UserError: an unknown name or key.
    """
    if isinstance(given, (TextTemplate, OwnTemplate)):
        return given
    options = dict(name=given) if isinstance(given, str) else dict(given)
    base = TEMPLATES.get(options.get('name', ''))
    known = [each.name for each in fields(base or TextTemplate)]
    for key in options:
        if key not in known:
            raise UserError(
                f'template: unknown key {key!r}{did_you_mean(key, known)}; known: {known}'
            )
    if base is not None:
        return replace(base, **options)
    if not {'name', 'system', 'user', 'response'} <= set(options):
        name = options.get('name')
        raise UserError(
            f'template {name!r} is not known{did_you_mean(str(name), TEMPLATES)}: use one of '
            f'{", ".join(TEMPLATES)}, or give name, system, user and response of your own'
        )
    return TextTemplate(**options)


def _chat_template(tokenizer: Any) -> Any:
    """Of the tokenizer.

    Raises:
        UserError: it has none.
    """
    if not tokenizer.chat_template:
        raise UserError('the tokenizer has no chat template: use the template plain or chatml')
    return tokenizer.chat_template


def _plain(value: Any) -> Any:
    """Lists for tuples."""
    return list(value) if isinstance(value, tuple) else value
