"""Compacting: sorted, whole and repeatable files, repeated rows, bounded memory, metadata."""

import gc
import hashlib
import json
import os
import tracemalloc

import numpy as np
import pyarrow.parquet as pq
import pytest
from trace_cases import make_trace

from mmdistill.core.errors import UserError
from mmkd.traces.compact import compact, read_metadata, read_parquet, write_parquet
from mmkd.traces.filters.answers import EmptyAnswer
from mmkd.traces.filters.repetitions import RepeatedQuery
from mmkd.traces.rows import Bad
from mmkd.traces.schema import ARROW, Sampling


def write(path, traces):
    """JSON lines."""
    path.write_text(''.join(each.model_dump_json() + '\n' for each in traces), 'utf-8')
    return path


def some(count, **more):
    """Traces whose order by uid is neither that of numbers nor that of making."""
    return [make_trace(f'é{n}', f'q{n}\u2028😀', f'a{n}' * 5, **more) for n in range(count)]


def shards(tmp_path, traces, count=3):
    """Traces in any order in several files."""
    order = np.random.default_rng(0).permutation(len(traces))
    parts = np.array_split(order, count)
    return [
        write(tmp_path / f's{n}.jsonl', [traces[each] for each in part])
        for n, part in enumerate(parts)
    ]


def in_order(traces):
    """As a compacted file has them."""
    return sorted(traces, key=lambda each: (each.source_uid, each.row_key))


@pytest.mark.parametrize('memory', [1, 3000, 1 << 28])
def test_all_traces_sorted_by_uid_then_key(tmp_path, monkeypatch, memory):
    monkeypatch.setattr('mmkd.traces.compact.GROUP', 16)
    traces = some(50) + [make_trace('é7', 'q7\u2028😀', sample=n) for n in range(1, 5)]
    out = tmp_path / 'out' / 'all.parquet'
    about = compact(shards(tmp_path, traces), out, memory=memory)
    assert list(read_parquet(out)) == in_order(traces)
    assert about['counts'] == dict(total=54, status=dict(ok=54), teachers=dict(t=dict(ok=54)))
    assert os.listdir(out.parent) == ['all.parquet']
    file = pq.ParquetFile(out)
    assert file.schema_arrow.equals(ARROW) and file.num_row_groups == 4
    again = compact([out], tmp_path / 'again.parquet')  # a compacted file is a shard too
    assert list(read_parquet(tmp_path / 'again.parquet')) == in_order(traces)
    assert again['counts'] == about['counts']


def test_the_order_of_shards_has_no_effect(tmp_path):
    files = shards(tmp_path, some(30))
    compact(files, tmp_path / 'a.parquet', memory=500)
    compact(files[::-1], tmp_path / 'b.parquet')
    assert (tmp_path / 'a.parquet').read_bytes() == (tmp_path / 'b.parquet').read_bytes()


def test_metadata(tmp_path):
    traces = some(3) + some(2, teacher='u', finish_reason='length', status='truncated')
    files = shards(tmp_path, traces, 2)
    out = tmp_path / 'all.parquet'
    about = compact(files, out)
    assert read_metadata(out) == about
    sums = [hashlib.sha256(each.read_bytes()).hexdigest() for each in files]
    assert about['inputs'] == [dict(file=f's{n}.jsonl', sha256=sums[n]) for n in range(2)]
    assert about['schema_version'] == 1
    assert about['counts']['status'] == dict(ok=3, truncated=2)
    assert about['counts']['teachers'] == dict(t=dict(ok=3), u=dict(truncated=2))
    assert (about['repeats'], about['conflicting'], about['bad']) == (0, 0, 0)


def test_filters_see_the_sorted_order(tmp_path):
    again = [
        make_trace(uid, 'same', sampling=Sampling(seed=n), row_key=f'{n:032x}')
        for n, uid in enumerate('cab')
    ]
    others = [
        make_trace('0', 'same', status='failed', row_key='f' * 32),
        make_trace('e', answer=' '),
    ]
    out = tmp_path / 'all.parquet'
    for files in (shards(tmp_path, again + others), shards(tmp_path, others + again, 2)):
        compact(files, out, [EmptyAnswer(), RepeatedQuery()])
        found = [each.status.removeprefix('filtered:') for each in read_parquet(out)]
        assert found == ['failed', 'ok', 'duplicate', 'duplicate', 'empty']


def test_rows_of_one_key_are_one_row_when_alike(tmp_path):
    traces = some(9)
    files = shards(tmp_path, traces + traces[:4])
    about = compact(files, tmp_path / 'all.parquet', memory=400)
    assert list(read_parquet(tmp_path / 'all.parquet')) == in_order(traces)
    assert about['repeats'] == 4 and about['counts']['total'] == 9


@pytest.mark.parametrize('uid', ['é3', 'éz'])
def test_rows_of_one_key_that_differ_are_an_error(tmp_path, uid):
    traces = some(9)
    other = traces[3].model_copy(update=dict(source_uid=uid, response_text='zz'))
    one, two = write(tmp_path / 'a.jsonl', traces), write(tmp_path / 'b.jsonl', [other])
    out = tmp_path / 'all.parquet'
    out.write_text('old')
    first = 'source_uid' if uid == 'éz' else 'response_text'
    said = rf'a.jsonl:4 and .*b.jsonl:1 have the same row_key {other.row_key} but differ in {first}'
    with pytest.raises(UserError, match=said):
        compact([one, two], out, memory=400)
    assert out.read_text() == 'old'  # nothing half-written, and no rest
    assert sorted(os.listdir(tmp_path)) == ['a.jsonl', 'all.parquet', 'b.jsonl']
    about = compact([one, two], out, conflicts='first')
    assert about['conflicting'] == 1 and about['counts']['total'] == 9
    kept = {each.row_key: each.source_uid for each in read_parquet(out)}
    assert kept[other.row_key] == min(uid, 'é3')


def test_malformed_rows(tmp_path):
    path = write(tmp_path / 'a.jsonl', some(2))
    path.write_bytes(path.read_bytes() + b'{"torn')
    with pytest.raises(UserError, match='a.jsonl:3: no JSON'):
        compact([path], tmp_path / 'all.parquet')
    assert os.listdir(tmp_path) == ['a.jsonl']
    assert compact([path], tmp_path / 'all.parquet', bad=Bad())['bad'] == 1
    write(path, [make_trace(row_key='short')])
    with pytest.raises(UserError, match="a.jsonl:1: row_key must have 32 hexa.* got 'short'"):
        compact([path], tmp_path / 'all.parquet')
    with pytest.raises(UserError, match='nowhere.jsonl: there is no such file'):
        compact(['nowhere.jsonl'], tmp_path / 'x.parquet')
    with pytest.raises(UserError, match='there are no traces to bring together'):
        compact([], tmp_path / 'x.parquet')


def test_an_empty_shard_gives_an_empty_file(tmp_path):
    (tmp_path / 'a.jsonl').write_text('')
    about = compact([tmp_path / 'a.jsonl'], tmp_path / 'all.parquet')
    assert about['counts']['total'] == 0 and not list(read_parquet(tmp_path / 'all.parquet'))


def test_memory_does_not_grow_with_the_data(tmp_path, monkeypatch):
    monkeypatch.setattr('mmkd.traces.compact.GROUP', 64)
    monkeypatch.setattr('mmkd.traces.rows.BATCH', 64)
    rows = (make_trace(f'{n * 7919 % 3000}', f'q{n}', f'{n}' * 1000) for n in range(3000))
    path = tmp_path / 'a.jsonl'
    with path.open('w') as file:
        file.writelines(each.model_dump_json() + '\n' for each in rows)
    assert path.stat().st_size > 11e6
    gc.collect()
    tracemalloc.start()
    compact([path], tmp_path / 'all.parquet', memory=1 << 19)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6


def test_reading_other_files(tmp_path):
    write_parquet(some(2), tmp_path / 'a.parquet', dict(mine=1))
    assert read_metadata(tmp_path / 'a.parquet') == dict(mine=1)
    assert list(read_parquet(tmp_path / 'a.parquet')) == some(2)
    table = pq.read_table(tmp_path / 'a.parquet')
    pq.write_table(table.drop_columns(['sampling']), tmp_path / 'b.parquet')
    with pytest.raises(UserError, match=r"b.parquet:1: no trace: needs 'sampling'"):
        list(read_parquet(tmp_path / 'b.parquet'))
    with pytest.raises(UserError, match='b.parquet: has no metadata of traces'):
        read_metadata(tmp_path / 'b.parquet')
    (tmp_path / 'c.parquet').write_text(json.dumps({}))
    with pytest.raises(UserError, match='c.parquet: no Parquet file'):
        read_metadata(tmp_path / 'c.parquet')
    with pytest.raises(UserError, match='d.parquet: there is no such file'):
        read_metadata(tmp_path / 'd.parquet')
