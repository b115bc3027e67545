"""Wording of the question-and-answer template, read from a YAML file.

The words of the official code (arXiv:2306.01985) are needed for checkpoints that were trained with
them; a user's file gives them, :data:`DEFAULT_FILE` has our own.
"""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from mmdistill.core.errors import UserError, did_you_mean
from mmkd.cobra.schema import CONTEXT, SLOTS
from mmkd.cobra.texts.escaping import spaced
from mmkd.cobra.texts.parsing import ANSWER, QUESTION

DEFAULT_FILE = Path(__file__).with_name('templates.yaml')
_STRICT = ConfigDict(extra='forbid', frozen=True)
Hidden = create_model('Hidden', __config__=_STRICT, **dict.fromkeys(CONTEXT, (str, ...)))
Questions = create_model('Questions', __config__=_STRICT, **dict.fromkeys(SLOTS, (str, ...)))


class SourceWording(BaseModel):
    """Texts that a model reads.

    Attributes:
        with_context: has the slots of the context and the statement in braces.
        without_context: has the statement alone.
        hidden: what stands for a slot that is not shown.
    """

    model_config = _STRICT

    with_context: str
    without_context: str
    hidden: Hidden


class Wording(BaseModel):
    """What a file of the form of :data:`DEFAULT_FILE` holds.

    Attributes:
        source: what a model reads.
        questions: of the slots, in the target.
    """

    model_config = _STRICT

    source: SourceWording
    questions: Questions


def load_wording(path: str | Path | None = None) -> Wording:
    """Wording of a YAML file.

    Args:
        path: of the file; None: our own words.

    Raises:
        UserError: there is no such file, or it has another form; the message names file and key.
    """
    path = Path(path or DEFAULT_FILE)
    if not path.is_file():
        raise UserError(f'{path}: there is no such file of templates')
    try:
        wording = Wording.model_validate(yaml.safe_load(path.read_text(encoding='utf-8')))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: no YAML: {" ".join(str(error).split())}') from None
    except ValidationError as error:
        raise UserError(f'{path}: {_first_fault(error)}') from None
    _check_source(path, wording.source)
    _check_questions(path, wording.questions.model_dump())
    return wording


def _first_fault(error: ValidationError) -> str:
    """Which key is wrong, and how."""
    fault = error.errors()[0]
    key = '.'.join(str(each) for each in fault['loc']) or 'the file'
    if fault['type'] != 'extra_forbidden':
        return f'{key}: {fault["msg"]}'
    kinds = dict(source=SourceWording, questions=Questions)
    kind = {(): Wording, ('source', 'hidden'): Hidden}.get(fault['loc'][:-1])
    known = (kind or kinds[fault['loc'][0]]).model_fields
    near = did_you_mean(str(fault['loc'][-1]), known)
    return f'{key}: unknown key{near}; known: {", ".join(known)}'


def _check_source(path: Path, source: SourceWording) -> None:
    """Refuses texts in which a slot is missing, and names that are none."""
    for key, needed in (
        ('with_context', (*CONTEXT, 'statement')),
        ('without_context', ('statement',)),
    ):
        try:
            parts = [each[1:] for each in Formatter().parse(getattr(source, key))]
        except ValueError as error:
            raise UserError(f'{path}: source.{key}: {error}; double a brace of yours') from None
        named = {name for name, spec, change in parts if name is not None}
        plain = not any(spec or change for _, spec, change in parts)
        if named != set(needed) or not plain:
            wanted = ', '.join(f'{{{name}}}' for name in needed)
            got = ', '.join(f'{{{name}}}' for name in sorted(named)) or 'none'
            raise UserError(f'{path}: source.{key}: must have just {wanted} in braces, got {got}')


def _check_questions(path: Path, questions: dict[str, str]) -> None:
    """Refuses questions that no parser could tell from others or from the marks around them."""
    seen: dict[str, str] = {}
    for slot, question in questions.items():
        if not question.strip():
            raise UserError(f'{path}: questions.{slot}: is empty')
        if re.search(f'{QUESTION}|{ANSWER}', question):
            raise UserError(f'{path}: questions.{slot}: must not contain Q: or A:')
        other = seen.setdefault(spaced(question), slot)
        if other != slot:
            raise UserError(f'{path}: questions.{slot}: is the same as questions.{other}')
