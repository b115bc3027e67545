"""What a teacher is asked for frames: kinds of calls, their slots and their words.

The four kinds follow the construction of COBRACORPUS and of its counterfactual part
(arXiv 2306.01985); that ``check`` can be a call of its own is our addition. The words are our own.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from mmdistill.core.errors import UserError
from mmkd.cobra.schema import CONTEXT, SLOTS

Kind = Literal['contexts', 'explanations', 'check', 'counterfactual']
Form = Literal['tagged', 'json']
PROMPTS = Path(__file__).with_name('prompts.yaml')
COMPLETE = 'complete'
"""Slot of the answer, yes or no, whether a statement is complete and understandable."""
SIDES = ('harmless', 'offensive')


class Call(NamedTuple):
    """A kind of call: the slots that are ``given``, those that are ``asked``, and its ``shots``."""

    given: tuple[str, ...]
    asked: tuple[str, ...]
    shots: int


CALLS: dict[str, Call] = dict(
    contexts=Call(('statement',), (*CONTEXT, COMPLETE), 5),
    explanations=Call(('statement', *CONTEXT), SLOTS, 7),
    check=Call(('statement',), (COMPLETE,), 5),
    counterfactual=Call(
        ('statement',), tuple(f'{side}_{slot}' for side in SIDES for slot in CONTEXT), 5
    ),
)
"""Demonstrations are as many as published for contexts and explanations; 5 elsewhere is ours."""


class PromptTexts(BaseModel):
    """Content of a file of prompts.

    Attributes:
        policy: ends every system message.
        forms: how to answer.
        names: of slots in tagged text.
        kinds: task of each kind of call.
    """

    model_config = ConfigDict(extra='forbid', frozen=True)

    policy: str
    forms: dict[Form, str]
    names: dict[str, str]
    kinds: dict[Kind, str]

    def system(self, kind: str, form: str) -> str:
        """The system message of a kind of call: task, form of the answer, policy."""
        asked = CALLS[kind].asked
        tags = ', '.join(f'[{self.names[slot]}]' for slot in asked)
        keys = ', '.join(f'"{slot}"' for slot in asked)
        how = self.forms[form].replace('{tags}', tags).replace('{keys}', keys)
        return '\n\n'.join(each.strip() for each in (self.kinds[kind], how, self.policy))


@lru_cache(maxsize=8)
def load_prompts(path: str | Path = PROMPTS) -> PromptTexts:
    """Prompts of a YAML file of the form of :data:`PROMPTS`.

    Args:
        path: of the file.

    Raises:
        UserError: no such file, no YAML, an unknown or missing key, an empty policy, or two slots
            of one name.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'{path}: there is no such file of prompts')
    try:
        texts = PromptTexts.model_validate(yaml.safe_load(path.read_text(encoding='utf-8')))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: no YAML: {" ".join(str(error).split())}') from None
    except ValidationError as error:
        first = error.errors()[0]
        key = '.'.join(str(each) for each in first['loc'])
        raise UserError(f'{path}: {key or "the file"}: {first["msg"]}') from None
    _check(path, texts)
    return texts


def _check(path: Path, texts: PromptTexts) -> None:
    """Refuses a file that lacks something, or whose names cannot be told apart."""
    slots = {slot for call in CALLS.values() for slot in (*call.given, *call.asked)}
    for key, there, needed in (
        ('forms', texts.forms, ('tagged', 'json')),
        ('kinds', texts.kinds, CALLS),
        ('names', texts.names, sorted(slots)),
    ):
        for name in needed:
            if not there.get(name, '').strip():
                raise UserError(f'{path}: {key}.{name} is missing; add its text')
    if not texts.policy.strip():
        raise UserError(f'{path}: policy is empty; it has to say what a teacher must not write')
    names = [name.casefold() for name in texts.names.values()]
    for slot, name in texts.names.items():
        if names.count(name.casefold()) > 1 or set(name) & set('[]\n'):
            raise UserError(
                f'{path}: names.{slot}: {name!r} must be unlike the others and without brackets'
            )
