"""Queries and traces: what is asked of a teacher, and what is kept of its answer.

A trace is the triple of explanation tuning (Orca, arXiv:2306.02707), system message, user query and
response, with what is needed to filter it, to train on it and to tell where it comes from.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmdistill.core.errors import UserError

SCHEMA_VERSION = 1
KEY_LENGTH = 32
"""Hexadecimal digits of a key."""
Message = dict[str, str]
"""``role`` (system, user or assistant) and ``content``."""
FINAL = ('ok', 'refused', 'truncated', 'empty', 'too_long', 'failed')
"""Statuses of a row that is not asked for again; ``filtered:<rule>`` is one too."""


def digest(value: Any) -> str:
    """Key of a JSON value: the same for the same content in any order of keys, ``str``."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(',', ':'))
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


class Record(BaseModel):
    """Unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra='forbid', frozen=True)


Kind = TypeVar('Kind', bound=Record)


class Query(Record):
    """A question with the system message that it is asked under.

    Attributes:
        source_uid: of the question in its source, unique there.
        sub_collection: ``cot``, ``niv2``, ``t0``, ``flan2021`` or a name of your own.
        task_name: within the sub-collection.
        template_type: how the source words it, for instance ``zs_opt``.
        is_mc: whether options are listed in the question.
        system_id: of the system message, 1 to 16; 0: one of your own.
        system_text: system message; may be empty.
        user_text: the question.
        target: the source's own answer, never shown to a student; None: unknown.
    """

    source_uid: str
    sub_collection: str = 'own'
    task_name: str = 'task'
    template_type: str = 'zs_noopt'
    is_mc: bool = False
    system_id: int = Field(0, ge=0)
    system_text: str = ''
    user_text: str
    target: str | None = None

    @property
    def query_key(self) -> str:
        """Key of what is asked, equal for texts that differ in Unicode composition alone."""
        return digest([unicodedata.normalize('NFC', t) for t in (self.system_text, self.user_text)])

    def messages(self) -> list[Message]:
        """As chat messages; an empty system message is left out."""
        found = [dict(role='user', content=self.user_text)]
        if self.system_text:
            found.insert(0, dict(role='system', content=self.system_text))
        return found


class Sampling(Record):
    """How a teacher draws its answer; what is None is left to the endpoint.

    Attributes:
        temperature: 0 is greedy.
        top_p: share of probability that is drawn from.
        max_tokens: of an answer.
        seed: of the endpoint's generator.
        stop: texts that end an answer.
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = Field(None, gt=0)
    seed: int | None = None
    stop: tuple[str, ...] = ()


class Usage(Record):
    """Tokens of a call: ``prompt``, ``completion`` and their sum ``total``; 0: not told."""

    prompt: int = 0
    completion: int = 0
    total: int = 0


class Trace(Query):
    """A query and what became of it.

    Attributes:
        row_key: see :func:`row_key`.
        teacher: name of the teacher's model.
        endpoint_id: alias of the endpoint, never a key or an address with one.
        sampling: how the answer was drawn.
        sample_index: number of the answer where a query is asked several times.
        response_text: the answer.
        finish_reason: why it ended, ``stop`` or ``length`` as a rule.
        usage: tokens.
        status: ``ok``, ``refused``, ``truncated``, ``empty``, ``too_long``, ``failed``, or
            ``filtered:<rule>``.
        error: why it failed, one line.
        attempts: calls that were made.
        latency_ms: of the last call.
        created_at: UTC, ISO 8601.
        collector_version: of mmkd.
        license_tag: of the data and teacher, as the user names it.
        schema_version: of this record.
    """

    row_key: str
    teacher: str
    endpoint_id: str = 'default'
    sampling: Sampling = Sampling()
    sample_index: int = Field(0, ge=0)
    response_text: str = ''
    finish_reason: str = ''
    usage: Usage = Usage()
    status: str = Field('ok', pattern=r'^(ok|refused|truncated|empty|too_long|failed|filtered:.+)$')
    error: str = ''
    attempts: int = Field(1, ge=0)
    latency_ms: int = Field(0, ge=0)
    created_at: str = ''
    collector_version: str = ''
    license_tag: str = ''
    schema_version: Literal[1] = SCHEMA_VERSION


def row_key(query: Query, teacher: str, sampling: Sampling, sample_index: int = 0) -> str:
    """Key of one answer: of everything that decides what it may be.

    Args:
        query: what is asked.
        teacher: name of the model.
        sampling: how it draws.
        sample_index: number of the answer.
    """
    return digest(
        dict(
            teacher=teacher,
            messages=query.messages(),
            sampling=sampling.model_dump(mode='json'),
            sample_index=sample_index,
            schema_version=SCHEMA_VERSION,
        )
    )


def read_record(kind: type[Kind], line: str | bytes, where: str) -> Kind:
    """A record from a line of JSON.

    Args:
        kind: :class:`Query` or :class:`Trace`.
        line: JSON.
        where: file and line number, for the message.

    Raises:
        UserError: no JSON, a missing or unknown key, or a value of another type.
    """
    try:
        return kind.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        key = '.'.join(str(each) for each in first['loc'])
        raise UserError(
            f'{where}: no {kind.__name__.lower()}: {f"{key}: " if key else ""}{first["msg"]}'
        ) from None


ARROW = pa.schema(
    [
        *((name, pa.string()) for name in ('row_key', 'query_key', 'source_uid')),
        *((name, pa.string()) for name in ('sub_collection', 'task_name', 'template_type')),
        ('is_mc', pa.bool_()),
        ('system_id', pa.int32()),
        *((name, pa.string()) for name in ('system_text', 'user_text', 'target')),
        *((name, pa.string()) for name in ('teacher', 'endpoint_id', 'sampling')),
        ('sample_index', pa.int32()),
        *((name, pa.string()) for name in ('response_text', 'finish_reason')),
        *((f'usage_{name}', pa.int64()) for name in ('prompt', 'completion', 'total')),
        *((name, pa.string()) for name in ('status', 'error')),
        ('attempts', pa.int32()),
        ('latency_ms', pa.int64()),
        *((name, pa.string()) for name in ('created_at', 'collector_version', 'license_tag')),
        ('schema_version', pa.int32()),
    ]
)
"""Columns of a Parquet file of traces; ``sampling`` is JSON."""


def to_columns(trace: Trace) -> dict[str, Any]:
    """A trace as a row of :data:`ARROW`."""
    row = trace.model_dump(exclude={'sampling', 'usage'})
    row['query_key'] = trace.query_key
    row['sampling'] = trace.sampling.model_dump_json()
    row.update({f'usage_{name}': count for name, count in trace.usage.model_dump().items()})
    return row


def from_columns(row: Mapping[str, Any]) -> Trace:
    """The trace of a row of :data:`ARROW`."""
    plain = {name: value for name, value in row.items() if name != 'query_key'}
    usage = {name: plain.pop(f'usage_{name}') for name in Usage.model_fields}
    plain['sampling'] = Sampling.model_validate_json(plain['sampling'])
    return Trace(**plain, usage=Usage(**usage))
