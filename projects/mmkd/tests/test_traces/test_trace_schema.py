"""Queries and traces: round trips, keys that depend on content alone, errors that name the key."""

import hashlib
import json

import pyarrow as pa
import pytest
from pydantic import ValidationError

from mmdistill.core.errors import UserError
from mmkd.traces.schema import (
    ARROW,
    Query,
    Sampling,
    Trace,
    Usage,
    digest,
    from_columns,
    read_record,
    row_key,
    to_columns,
)

ODD = 'line\nbreak \u2028 tab\t "quoted" \\ 😀 👩‍👩‍👧 é e\u0301 中文\x00'


def trace(**changes):
    """A trace that has a value in every field."""
    query = dict(
        source_uid='niv2.7',
        sub_collection='niv2',
        task_name='task/7',
        template_type='zs_opt',
        is_mc=True,
        system_id=5,
        system_text=ODD,
        user_text=ODD + '?',
        target=ODD + '!',
    )
    sampling = Sampling(temperature=0.5, top_p=0.9, max_tokens=7, seed=3, stop=('\n\n', '😀'))
    return Trace(
        **{
            **query,
            **dict(
                row_key=row_key(Query(**query), 't', sampling, 2),
                teacher='t',
                endpoint_id='e',
                sampling=sampling,
                sample_index=2,
                response_text=ODD * 2,
                finish_reason='length',
                usage=Usage(prompt=1, completion=2, total=3),
                status='filtered:near_duplicate',
                error='x',
                attempts=4,
                latency_ms=5_000_000_000,
                created_at='2026-01-01T00:00:00Z',
                collector_version='1',
                license_tag='MIT',
            ),
            **changes,
        }
    )


def test_json_round_trip_is_one_line_and_exact():
    given = trace()
    line = given.model_dump_json()
    assert '\n' not in line and read_record(Trace, line, 'f:1') == given
    assert read_record(Trace, line.encode(), 'f:1') == given
    assert read_record(
        Query, Query(user_text=ODD, source_uid='a').model_dump_json(), 'f:1'
    ) == Query(user_text=ODD, source_uid='a')


@pytest.mark.parametrize('changes', [{}, dict(target=None), dict(sampling=Sampling())])
def test_arrow_round_trip_is_exact(changes):
    given = trace(**changes)
    table = pa.Table.from_pylist([to_columns(given)], schema=ARROW)
    [row] = table.to_pylist()
    assert from_columns(row) == given and row['query_key'] == given.query_key
    assert set(row) == set(to_columns(given))  # no column is lost


def test_keys_do_not_depend_on_the_order_of_keys():
    assert digest(dict(a=1, b=dict(c=2, d=[3]))) == digest(dict(b=dict(d=[3], c=2), a=1))
    assert digest([1, 2]) != digest([2, 1])
    text = json.loads(trace().model_dump_json())
    other = json.dumps(dict(reversed(text.items())))
    assert read_record(Trace, other, 'f:1') == trace()


def test_query_key_is_of_nfc_and_of_nothing_else():
    composed, apart = (Query(source_uid='a', system_text=t, user_text=t) for t in ('é', 'e\u0301'))
    assert composed.query_key == apart.query_key
    text = '["é","é"]'
    assert composed.query_key == hashlib.sha256(text.encode()).hexdigest()[:32]
    other = composed.model_copy(update=dict(source_uid='b', target='x', task_name='y', system_id=3))
    assert other.query_key == composed.query_key
    # compatibility forms are other texts, and so is text that moves to the system message
    assert len({Query(source_uid='a', user_text=t).query_key for t in ('fi', 'ﬁ', 'Fi')}) == 3
    ab, ba = (
        Query(source_uid='a', system_text='ab', user_text='c'),
        Query(source_uid='a', system_text='a', user_text='bc'),
    )
    assert ab.query_key != ba.query_key


def test_row_key_is_of_everything_that_decides_the_answer():
    query, sampling = Query(source_uid='a', user_text='q'), Sampling(temperature=0)
    base = row_key(query, 't', sampling)
    assert base == row_key(query.model_copy(update=dict(source_uid='b', target='x')), 't', sampling)
    others = [
        row_key(query.model_copy(update=dict(user_text='r')), 't', sampling),
        row_key(query.model_copy(update=dict(system_text='s')), 't', sampling),
        row_key(query, 'u', sampling),
        row_key(query, 't', Sampling(temperature=0.1)),
        row_key(query, 't', sampling, 1),
    ]
    assert len({base, *others}) == 6


def test_an_empty_system_message_is_no_turn():
    assert Query(source_uid='a', user_text='q').messages() == [dict(role='user', content='q')]
    both = Query(source_uid='a', system_text='s', user_text='q').messages()
    assert both[0] == dict(role='system', content='s') and both[1]['role'] == 'user'


@pytest.mark.parametrize(
    ('line', 'said'),
    [
        (
            '{"source_uid": "a", "user_text": "b", "colour": 1}',
            'f.jsonl:3: no query: colour: Extra',
        ),
        ('{"source_uid": "a"}', 'f.jsonl:3: no query: user_text: Field required'),
        ('{"source_uid": "a", "user_text": 1}', 'f.jsonl:3: no query: user_text: .*string'),
        ('{"source_uid": "a", "user_te', 'f.jsonl:3: no query: Invalid JSON'),
        ('{"source_uid": "a", "user_text": "b", "system_id": -1}', 'system_id'),
    ],
)
def test_what_is_wrong_is_named(line, said):
    with pytest.raises(UserError, match=said):
        read_record(Query, line, 'f.jsonl:3')


def test_statuses_and_versions():
    for status in ('ok', 'refused', 'truncated', 'empty', 'too_long', 'failed', 'filtered:x'):
        assert trace(status=status).status == status
    for bad in (dict(status='filtered:'), dict(status='okay'), dict(schema_version=2)):
        with pytest.raises(ValidationError):
            trace(**bad)
