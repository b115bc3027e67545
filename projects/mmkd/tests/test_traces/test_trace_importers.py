"""Files of others: OpenOrca, SlimOrca, FLAN and our own, as JSON lines and as Parquet."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from trace_cases import make_trace

from mmdistill.core.errors import UserError
from mmkd.traces import importers
from mmkd.traces.importers import collection_of
from mmkd.traces.rows import Bad, read_records
from mmkd.traces.schema import Query, Sampling, row_key

ORCA = [
    dict(id='niv.242684', system_prompt='', question='a\nb 😀', response='c'),
    dict(id='flan.5', system_prompt='s', question='Q\nOptions:\n- yes\n- no', response=' '),
]
SLIM = [
    dict(
        conversations=[
            {'from': 'system', 'value': 's', 'weight': None},
            {'from': 'human', 'value': 'q', 'weight': 0},
            {'from': 'gpt', 'value': 'r', 'weight': 1},
        ]
    ),
    dict(conversations=[{'from': 'human', 'value': 'q'}, {'from': 'gpt', 'value': 'r'}]),
]
FLAN = [
    dict(inputs='i', targets='t', task_source='NIv2', task_name='n', template_type='zs_opt'),
    dict(inputs='i', targets='u', task_source='P3', task_id='n', template_type='fs_noopt'),
]


@pytest.fixture(params=['jsonl', 'parquet'])
def saved(request, tmp_path):
    """Saves rows as either kind of file."""

    def save(rows, name='rows'):
        path = tmp_path / f'{name}.{request.param}'
        if request.param == 'parquet':
            names = dict.fromkeys(name for row in rows for name in row)
            columns = {name: [row.get(name) for row in rows] for name in names}
            pq.write_table(pa.table(columns), path, row_group_size=2)
        else:
            path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
        return path

    return save


def test_openorca(saved):
    one, two = importers.openorca(saved(ORCA), 'gpt-4', 'MIT')
    assert (one.source_uid, one.sub_collection, one.user_text) == ('niv.242684', 'niv2', 'a\nb 😀')
    assert (one.system_text, one.response_text, one.status) == ('', 'c', 'ok')
    assert (one.teacher, one.license_tag, one.finish_reason) == ('gpt-4', 'MIT', '')
    query = Query(source_uid='other', user_text='a\nb 😀')
    assert one.row_key == row_key(query, 'gpt-4', Sampling())
    assert (two.sub_collection, two.is_mc, two.template_type) == ('flan2021', True, 'zs_opt')
    assert two.status == 'empty' and (one.is_mc, one.template_type) == (False, 'zs_noopt')


def test_slimorca(saved):
    one, two = importers.slimorca(saved(SLIM, 'slim'), 'gpt-4')
    assert (one.system_text, one.user_text, one.response_text) == ('s', 'q', 'r')
    assert (two.system_text, two.user_text, two.response_text) == ('', 'q', 'r')
    assert [one.source_uid, two.source_uid] == ['slim.1', 'slim.2']
    assert one.sub_collection == 'slimorca' and one.row_key != two.row_key


def test_flan(saved):
    one, two = importers.flan(saved(FLAN))
    assert (one.sub_collection, one.task_name, one.template_type) == ('niv2', 'n', 'zs_opt')
    assert (one.is_mc, one.user_text, one.target, one.system_id) == (True, 'i', 't', 0)
    assert (two.sub_collection, two.task_name, two.is_mc) == ('t0', 'n', False)
    [again] = importers.flan(saved(FLAN[:1], 'elsewhere'))
    assert again == one  # its id does not depend on its place
    others = [dict(FLAN[0], **{key: 'other'}) for key in ('inputs', 'targets', 'task_name')]
    uids = {each.source_uid for each in importers.flan(saved([FLAN[0], *others], 'more'))}
    assert len(uids) == 4 and one.source_uid in uids
    [named] = importers.flan(saved([dict(FLAN[0], id=7)], 'named'))
    assert named.source_uid == '7'


def test_own_queries_and_traces(tmp_path):
    path, traces = tmp_path / 'a.jsonl', [make_trace('é', 'a\u2028b'), make_trace('b')]
    path.write_text('\n\n'.join(each.model_dump_json() for each in traces), 'utf-8')
    assert list(importers.traces(path)) == traces
    names = set(Query.model_fields)
    queries = [Query(**each.model_dump(include=names)) for each in traces]
    assert [made for _, made in read_records(path, importers.trace_query)] == queries
    path.write_text(''.join(each.model_dump_json() + '\n' for each in queries), 'utf-8')
    assert list(importers.queries(path)) == queries


def test_names_of_collections():
    names = ('CoT', 'NIv2', 'P3', 'T0', 'Flan2021', 'flan', 'Dialog', 'Mine')
    found = ['cot', 'niv2', 't0', 't0', 'flan2021', 'flan2021', 'dialog', 'mine']
    assert [*map(collection_of, names)] == found


def slim(*names):
    """A row of turns by name."""
    return json.dumps(dict(conversations=[{'from': name, 'value': 'x'} for name in names]))


@pytest.mark.parametrize(
    ('kind', 'line', 'said'),
    [
        ('openorca', '{"id": "a", "question": ', 'no JSON'),
        ('openorca', '[1]', r'must be a JSON object, got \[1\]'),
        ('openorca', '{"id": "a", "question": "q"}', 'response is missing'),
        ('openorca', '{"id": 7}', 'id must be a text, got 7'),
        ('openorca', '{"id": "a", "question": "\\ud800"}', 'question has half of a surrogate'),
        ('openorca', '\xff', 'no JSON'),
        ('slimorca', '{}', 'conversations must be a list of turns'),
        (
            'slimorca',
            slim('human', 'system', 'gpt'),
            'conversations must be of system, human and gpt, got',
        ),
        (
            'slimorca',
            slim('human', 'gpt', 'human', 'gpt'),
            'conversations must be of system, human and gpt',
        ),
        ('slimorca', '{"conversations": [{"from": "gpt"}]}', 'value is missing'),
        ('flan', '{"inputs": "a", "targets": 1}', 'targets must be a text, got 1'),
        ('flan', '{"inputs": "a", "targets": "b", "task_source": "c"}', 'task_name is missing'),
        ('queries', '{"source_uid": "a", "user": "b"}', 'no query: user_text: Field required'),
        ('traces', '{"source_uid": "a", "user_text": "b"}', 'no trace: row_key: Field required'),
    ],
)
def test_a_malformed_line_is_one_error_or_counted(tmp_path, kind, line, said):
    good = dict(openorca=ORCA[0], slimorca=SLIM[0], flan=FLAN[0])
    good['queries'] = dict(source_uid='a', user_text='b')
    good['traces'] = make_trace().model_dump()
    path = tmp_path / 'a.jsonl'
    path.write_bytes(
        f'{json.dumps(good[kind])}\n\n{line}\n{json.dumps(good[kind])}'.encode('latin1')
    )
    options = dict(teacher='t') if kind in ('openorca', 'slimorca') else {}
    with pytest.raises(UserError, match=f'a.jsonl:3: {said}') as caught:
        list(getattr(importers, kind)(path, **options))
    assert '\n' not in str(caught.value)
    bad = Bad()
    assert len(list(getattr(importers, kind)(path, **options, bad=bad))) == 2
    assert bad.count == 1 and bad.first == str(caught.value)


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(UserError, match='nowhere.jsonl: there is no such file'):
        list(importers.flan('nowhere.jsonl'))
    (tmp_path / 'a.parquet').write_bytes(b'no')
    with pytest.raises(UserError, match='a.parquet: no Parquet file: '):
        list(importers.flan(tmp_path / 'a.parquet'))
    table = pa.Table.from_pylist(
        [dict(FLAN[0], targets=None), FLAN[0]], pa.schema([(name, pa.string()) for name in FLAN[0]])
    )
    pq.write_table(table, tmp_path / 'b.parquet')
    with pytest.raises(UserError, match='b.parquet:1: targets is missing'):
        list(importers.flan(tmp_path / 'b.parquet'))


@pytest.mark.parametrize('length', [0, 3, 5, 9])
def test_rows_that_are_wanted(saved, monkeypatch, length):
    monkeypatch.setattr('mmkd.traces.rows.BATCH', 2)
    path = saved([dict(n=n) for n in range(7)])
    keep = np.arange(length) % 2 == 1
    found = list(read_records(path, lambda row, place: (row['n'], place.number), keep=keep))
    assert found == [(n, (n, n + 1)) for n in range(1, min(length, 7), 2)]
