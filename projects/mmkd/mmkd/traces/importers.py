"""Traces and queries from the files of others.

Made for the public layouts of OpenOrca, SlimOrca and FLAN; a malformed row is one error that names
file and line, or is counted where a :class:`~mmkd.traces.rows.Bad` is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from mmdistill.core.errors import UserError
from mmkd.traces.options import is_multiple_choice, listed_options
from mmkd.traces.rows import Bad, Place, Row, read_records, text_of
from mmkd.traces.schema import Query, Record, Sampling, Trace, digest, from_columns, row_key

Kind = TypeVar('Kind', bound=Record)
COLLECTIONS = dict(
    cot='cot', niv='niv2', niv2='niv2', t0='t0', p3='t0', flan='flan2021', flan2021='flan2021'
)
"""Names of sub-collections in the sources, without case, and ours; other names stay."""


def collection_of(name: str) -> str:
    """Our name of a sub-collection, ``P3`` is ``t0`` for instance."""
    plain = name.lower()
    return COLLECTIONS.get(plain, plain)


def openorca(path: str | Path, teacher: str, license_tag: str = '', bad: Bad | None = None):
    """Traces of OpenOrca: ``id``, ``system_prompt``, ``question``, ``response``.

    Args:
        path: of JSON lines or a Parquet file.
        teacher: that has answered; the file does not tell.
        license_tag: of the traces.
        bad: counts malformed rows; None: they are errors.

    Returns:
        Iterator of :class:`~mmkd.traces.schema.Trace`.
    """
    return _all(path, partial(openorca_trace, teacher=teacher, license_tag=license_tag), bad)


def slimorca(path: str | Path, teacher: str, license_tag: str = '', bad: Bad | None = None):
    """Traces of SlimOrca: ``conversations`` of ``from`` (system, human, gpt) and ``value``.

    Args:
        path: of JSON lines or a Parquet file; rows are numbered, as they have no ids.
        teacher: that has answered.
        license_tag: of the traces.
        bad: counts malformed rows; None: they are errors.

    Returns:
        Iterator of :class:`~mmkd.traces.schema.Trace`.
    """
    return _all(path, partial(slimorca_trace, teacher=teacher, license_tag=license_tag), bad)


def flan(path: str | Path, bad: Bad | None = None) -> Iterator[Query]:
    """Queries of FLAN: ``inputs``, ``targets``, ``task_source``, ``task_name`` or ``task_id``.

    Args:
        path: of JSON lines or a Parquet file.
        bad: counts malformed rows; None: they are errors.
    """
    return _all(path, flan_query, bad)


def queries(path: str | Path, bad: Bad | None = None) -> Iterator[Query]:
    """Queries of JSON lines or a Parquet file with the fields of :class:`Query`.

    Args:
        path: of the file.
        bad: counts malformed rows; None: they are errors.
    """
    return _all(path, partial(record, kind=Query), bad)


def traces(path: str | Path, bad: Bad | None = None) -> Iterator[Trace]:
    """Traces of JSON lines, or of a Parquet file that was compacted.

    Args:
        path: of the file.
        bad: counts malformed rows; None: they are errors.
    """
    return _all(path, own_trace, bad)


def openorca_trace(row: Row, place: Place, teacher: str, license_tag: str = '') -> Trace:
    """A row of OpenOrca as a trace; ``finish_reason`` is empty, as it is not told."""
    uid = text_of(row, 'id', place)
    return _trace(
        uid=uid,
        collection=collection_of(uid.partition('.')[0]),
        system=text_of(row, 'system_prompt', place, ''),
        user=text_of(row, 'question', place),
        response=text_of(row, 'response', place),
        teacher=teacher,
        license_tag=license_tag,
    )


def slimorca_trace(row: Row, place: Place, teacher: str, license_tag: str = '') -> Trace:
    """A row of SlimOrca as a trace of the sub-collection ``slimorca``."""
    turns = row.get('conversations')
    if not isinstance(turns, list) or not all(isinstance(each, dict) for each in turns):
        raise UserError(f'{place}: conversations must be a list of turns')
    said = {text_of(each, 'from', place): text_of(each, 'value', place) for each in turns}
    wanted = ['system', 'human', 'gpt']
    if [each['from'] for each in turns] not in (wanted, wanted[1:]):
        raise UserError(
            f'{place}: conversations must be of system, human and gpt, got '
            f'{[each["from"] for each in turns]}'
        )
    return _trace(
        uid=f'{place.path.stem}.{place.number}',
        collection='slimorca',
        system=said.get('system', ''),
        user=said['human'],
        response=said['gpt'],
        teacher=teacher,
        license_tag=license_tag,
    )


def flan_query(row: Row, place: Place) -> Query:
    """A row of FLAN as a query without a system message.

    Its ``source_uid`` is ``uid`` or ``id`` where the row has one, or else a key of its content, so
    that it does not depend on the place of the row.
    """
    user, target = text_of(row, 'inputs', place), text_of(row, 'targets', place)
    source, template = text_of(row, 'task_source', place), text_of(row, 'template_type', place, '')
    only_id = row.get('task_name') is None and row.get('task_id') is not None
    task = text_of(row, 'task_id' if only_id else 'task_name', place)
    collection = collection_of(source)
    own = row.get('uid', row.get('id'))
    if own is None:
        own = f'{collection}.{digest([task, template, user, target])}'
    mc = is_multiple_choice(template, user)
    return Query(
        source_uid=str(own),
        sub_collection=collection,
        task_name=task,
        template_type=template or ('zs_opt' if mc else 'zs_noopt'),
        is_mc=mc,
        user_text=user,
        target=target,
    )


def record(row: Row, place: Place, kind: type[Kind]) -> Kind:
    """A row that has the fields of :class:`Query` or :class:`Trace`."""
    try:
        return kind.model_validate(dict(row))
    except ValidationError as error:
        first = error.errors()[0]
        key = '.'.join(str(each) for each in first['loc'])
        raise UserError(f'{place}: no {kind.__name__.lower()}: {key}: {first["msg"]}') from None


def own_trace(row: Row, place: Place) -> Trace:
    """A row of a collection, or of a compacted file."""
    if 'query_key' not in row:
        return record(row, place, Trace)
    try:
        return from_columns(row)
    except (ValidationError, KeyError) as error:
        what = error.errors()[0]['msg'] if isinstance(error, ValidationError) else f'needs {error}'
        raise UserError(f'{place}: no trace: {what}') from None


def trace_query(row: Row, place: Place) -> Query:
    """The query of a trace, or a query itself."""
    if 'row_key' not in row:
        return record(row, place, Query)
    return Query(**own_trace(row, place).model_dump(include=set(Query.model_fields)))


def _all(path: str | Path, convert: Callable[[Row, Place], Kind], bad: Bad | None):
    """Records of a file."""
    return (made for _, made in read_records(path, convert, bad))


def _trace(
    *,
    uid: str,
    collection: str,
    system: str,
    user: str,
    response: str,
    teacher: str,
    license_tag: str,
) -> Trace:
    """A trace whose sampling and task are not told."""
    mc = bool(listed_options(user)[1])
    query = Query(
        source_uid=uid,
        sub_collection=collection,
        template_type='zs_opt' if mc else 'zs_noopt',
        is_mc=mc,
        system_text=system,
        user_text=user,
    )
    return Trace(
        **query.model_dump(),
        row_key=row_key(query, teacher, Sampling()),
        teacher=teacher,
        endpoint_id='import',
        response_text=response,
        status='ok' if response.strip() else 'empty',
        attempts=0,
        license_tag=license_tag,
    )
