"""Frames: a statement, its context, and what it does there.

COBRA (arXiv 2306.01985) describes a statement by three slots of context and seven of explanation,
all free text. Their order here is that of prompts, targets and parsers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from mmkd.traces.schema import Record, digest

SCHEMA_VERSION = 1
CONTEXT = ('situation', 'speaker', 'listener')
"""Slots of the context: the scene, and who speaks to whom."""
SLOTS = (
    'intent',
    'target_group',
    'power',
    'implication',
    'emotional',
    'cognitive',
    'offensiveness',
)
"""Slots of the explanation, in their one order."""
Label = Literal[-1, 0, 1]
"""1: offensive, 0: not, -1: the annotators did not agree; None elsewhere: never asked."""


class Provenance(Record):
    """Where the text of a frame comes from.

    Attributes:
        model: that wrote it; empty: nobody knows.
        prompt_hash: of the prompt with its demonstrations.
        sampling: how it drew, JSON.
        status: ``ok``, or why there is no whole frame.
        attempts: calls that were made.
    """

    model: str = ''
    prompt_hash: str = ''
    sampling: str = ''
    status: str = 'ok'
    attempts: int = Field(0, ge=0)


class Frame(Record):
    """A statement in a context with its explanation; an empty slot is one that is not filled.

    Attributes:
        frame_id: unique in a table.
        statement_id: shared by the frames of one statement, see :func:`statement_id`.
        statement: what is said.
        situation: the scene.
        speaker: who speaks, as the user says; never inferred.
        listener: who is spoken to.
        intent: what the speaker wants.
        target_group: who is meant.
        power: difference in power between them that matters.
        implication: how it is understood.
        emotional: what the target feels at once.
        cognitive: what the target learns from it in the long run.
        offensiveness: a few words for the kind of offence, or for none.
        offensive_bin: what a binarizer makes of ``offensiveness``.
        label_majority: of two of three annotators.
        label_all: of all three.
        more_offensive: whether it is the more offensive one of its pair.
        pair_id: shared by the two contexts of a counterfactual pair.
        side: of the pair.
        group: the group that the statement is about, where the source says so.
        source: name of the data.
        split: of the data.
        provenance: who wrote it.
        extra: further columns of the source, unchanged.
    """

    frame_id: str
    statement_id: str
    statement: str
    situation: str = ''
    speaker: str = ''
    listener: str = ''
    intent: str = ''
    target_group: str = ''
    power: str = ''
    implication: str = ''
    emotional: str = ''
    cognitive: str = ''
    offensiveness: str = ''
    offensive_bin: Literal[0, 1] | None = None
    label_majority: Label | None = None
    label_all: Label | None = None
    more_offensive: Label | None = None
    pair_id: str | None = None
    side: Literal['A', 'B'] | None = None
    group: str | None = None
    source: str = ''
    split: str = ''
    provenance: Provenance = Provenance()
    extra: dict[str, str] = {}

    def context(self) -> dict[str, str]:
        """The three slots of the context."""
        return {name: getattr(self, name) for name in CONTEXT}

    def explanation(self) -> dict[str, str]:
        """The seven slots of the explanation."""
        return {name: getattr(self, name) for name in SLOTS}

    def missing(self, names: Iterable[str] = SLOTS) -> tuple[str, ...]:
        """Those of the slots ``names`` that hold nothing but white space."""
        return tuple(name for name in names if not getattr(self, name).strip())


def statement_id(statement: str) -> str:
    """Key of a statement: the same for the same text."""
    return digest(dict(statement=statement))


def frame_id(statement: str, context: Mapping[str, str]) -> str:
    """Key of a statement in a context; several frames of the same two need another."""
    return digest(dict(statement=statement, context={name: context[name] for name in CONTEXT}))


_TEXTS = tuple(
    name for name, field in Frame.model_fields.items() if field.annotation in (str, str | None)
)
_NUMBERS = ('offensive_bin', 'label_majority', 'label_all', 'more_offensive')
ARROW = pa.schema(
    [
        *((name, pa.string()) for name in _TEXTS),
        ('side', pa.string()),
        *((name, pa.int8()) for name in _NUMBERS),
        *((f'provenance_{name}', pa.string()) for name in list(Provenance.model_fields)[:-1]),
        ('provenance_attempts', pa.int32()),
        ('extra', pa.string()),
    ],
    metadata={'mmkd.frames': str(SCHEMA_VERSION)},
)
"""Columns of a Parquet file of frames; ``extra`` is JSON."""


def to_columns(frame: Frame) -> dict[str, Any]:
    """A frame as a row of :data:`ARROW`."""
    row = frame.model_dump(exclude={'provenance', 'extra'})
    row.update({f'provenance_{key}': value for key, value in frame.provenance.model_dump().items()})
    row['extra'] = json.dumps(frame.extra, ensure_ascii=False, sort_keys=True)
    return row


def from_columns(row: Mapping[str, Any]) -> Frame:
    """The frame of a row of :data:`ARROW`."""
    plain = dict(row)
    names = Provenance.model_fields
    provenance = Provenance(**{name: plain.pop(f'provenance_{name}') for name in names})
    extra = json.loads(plain.pop('extra'))
    return Frame(**plain, provenance=provenance, extra=extra)
