"""System messages of explanation tuning, and which of them a query is asked under.

Their kinds, and the sets that a sub-collection draws from, are those that are reported of Orca
(arXiv:2306.02707) and read alike by two replications; the words are our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from mmdistill.core.errors import UserError, did_you_mean
from mmkd.traces.hashing import seeded_number
from mmkd.traces.schema import Query

DEFAULT_FILE = Path(__file__).with_name('system_messages.yaml')
McPolicy = Literal['mixed', 'mc_only']
"""What a multiple-choice question draws from: the whole set, or only the messages for such."""


class SystemMessage(BaseModel):
    """A system message.

    Attributes:
        purpose: for people.
        text: of the message; may be empty.
        multiple_choice_only: drawn only for a question that lists options.
    """

    model_config = ConfigDict(extra='forbid', frozen=True)

    purpose: str
    text: str
    multiple_choice_only: bool = False


class _File(BaseModel):
    """What a file of system messages holds."""

    model_config = ConfigDict(extra='forbid')

    messages: dict[int, SystemMessage]
    sets: dict[str, list[int]]


@dataclass(frozen=True)
class SystemMessages:
    """System messages by id, and the ids of every sub-collection.

    Attributes:
        messages: by id.
        sets: ids by sub-collection.
        flan_mc_policy: of the two readings of the paper's figure: a multiple-choice question draws
            from the whole set (``mixed``), or only from the messages for multiple choice where the
            set has such (``mc_only``). ``mixed`` as default is our own choice.
        path: where they come from, for messages.
    """

    messages: dict[int, SystemMessage]
    sets: dict[str, tuple[int, ...]]
    flan_mc_policy: McPolicy = 'mixed'
    path: str = ''

    def ids(self, sub_collection: str, is_mc: bool) -> tuple[int, ...]:
        """Ids that a query may be asked under.

        Args:
            sub_collection: of the query.
            is_mc: whether it lists options.

        Raises:
            UserError: the sub-collection has no set.
        """
        if sub_collection not in self.sets:
            raise UserError(
                f'{self.path}: sets has no sub-collection {sub_collection!r}'
                f'{did_you_mean(sub_collection, self.sets)}; add it, or correct its name'
            )
        found = self.sets[sub_collection]
        special = tuple(each for each in found if self.messages[each].multiple_choice_only)
        if not is_mc:
            return tuple(each for each in found if each not in special)
        return special if special and self.flan_mc_policy == 'mc_only' else found

    def assign(self, query: Query, seed: int) -> Query:
        """The query under a system message of its set, drawn uniformly by seed and ``source_uid``.

        A query that has a system message already keeps it.

        Args:
            query: without a system message.
            seed: another one draws anew.
        """
        if query.system_id or query.system_text:
            return query
        ids = self.ids(query.sub_collection, query.is_mc)
        chosen = ids[seeded_number('system message', seed, query.source_uid) % len(ids)]
        return query.model_copy(
            update=dict(system_id=chosen, system_text=self.messages[chosen].text)
        )


def load_system_messages(
    path: str | Path | None = None, flan_mc_policy: McPolicy = 'mixed'
) -> SystemMessages:
    """System messages of a YAML file of the form of :data:`DEFAULT_FILE`.

    Args:
        path: of the file; None: our own messages.
        flan_mc_policy: see :class:`SystemMessages`.

    Raises:
        UserError: there is no such file, or it has another form; the message names the key.
    """
    if flan_mc_policy not in get_args(McPolicy):
        raise UserError(f"flan_mc_policy must be 'mixed' or 'mc_only', got {flan_mc_policy!r}")
    path = Path(path or DEFAULT_FILE)
    if not path.is_file():
        raise UserError(f'{path}: there is no such file of system messages')
    try:
        content = _File.model_validate(yaml.safe_load(path.read_text(encoding='utf-8')))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: no YAML: {" ".join(str(error).split())}') from None
    except ValidationError as error:
        first = error.errors()[0]
        key = '.'.join(str(each) for each in first['loc'])
        raise UserError(f'{path}: {key or "the file"}: {first["msg"]}') from None
    _check(path, content)
    sets = {name: tuple(ids) for name, ids in content.sets.items()}
    return SystemMessages(content.messages, sets, flan_mc_policy, str(path))


def _check(path: Path, content: _File) -> None:
    """Refuses ids that are not there, and sets that some question could not draw from."""
    for number in content.messages:
        if number < 1:
            raise UserError(f'{path}: messages.{number}: ids begin with 1')
    for name, ids in content.sets.items():
        for number in ids:
            if number not in content.messages:
                raise UserError(f'{path}: sets.{name}: there is no message {number}')
        if len(set(ids)) < len(ids):
            raise UserError(f'{path}: sets.{name}: {ids} names a message twice')
        if all(content.messages[each].multiple_choice_only for each in ids):
            raise UserError(
                f'{path}: sets.{name}: needs a message that is not for multiple choice alone'
            )
