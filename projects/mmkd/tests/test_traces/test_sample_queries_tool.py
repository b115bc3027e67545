"""The tools that draw queries and compact traces, from the command line to the files."""

import importlib.util
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from trace_cases import make_trace

from mmdistill.core.errors import UserError
from mmkd.traces.compact import read_parquet
from mmkd.traces.importers import queries
from mmkd.traces.progress import watched

TOOLS = Path(__file__).parents[2] / 'tools'


def call(name, *args):
    """Runs a tool in this process."""
    spec = importlib.util.spec_from_file_location(f'tool_{name}', TOOLS / f'{name}.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool.main([*map(str, args)])


@pytest.fixture
def flan(tmp_path):
    """Rows of two sub-collections, and one that is not used."""
    rows = [
        dict(
            inputs=f'{source} {task} {n}',
            targets='t',
            task_source=source,
            task_name=f'task{task}',
            template_type=template,
        )
        for source in ('CoT', 'P3', 'Dialog')
        for task in range(4)
        for n in range(5 * task)
        for template in ('zs_opt', 'fs_opt')
    ]
    path = tmp_path / 'flan.jsonl'
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    return path


def test_queries_of_a_mixture_with_their_summary(flan, tmp_path, capsys):
    out = tmp_path / 'q.jsonl'
    parts = ['--part', 'cot=all', '--part', 't0=waterfill:20']
    assert call('sample_queries', flan, '--out', out, '--seed', 3, *parts) == 0
    found = list(queries(out))
    sizes = {name: sum(q.sub_collection == name for q in found) for name in ('cot', 't0')}
    assert sizes == dict(cot=30, t0=20) and len(found) == 50
    allowed = dict(cot={6, 11, 16}, t0={1, 2, 3, 5, 7})
    assert all(each.system_id in allowed[each.sub_collection] for each in found)
    about = json.loads((tmp_path / 'q.jsonl.summary.json').read_text())
    assert (about['queries'], about['seed']) == (50, 3)
    assert about['parts']['t0'] | dict(tasks=3, available=30, drawn=20) == about['parts']['t0']
    assert about['left_out']['dialog'] == dict(collection=60)
    assert about['left_out']['t0'] == dict(few_shot=30, not_drawn=10)
    assert sum(about['system_messages'].values()) == 50
    assert about['recipe']['parts']['cot'] == dict(algorithm='all')
    assert '50 queries are in' in capsys.readouterr().out
    first = out.read_bytes()
    call('sample_queries', flan, '--out', out, '--seed', 3, *parts)
    assert out.read_bytes() == first
    call('sample_queries', flan, '--out', out, '--seed', 4, *parts)
    assert out.read_bytes() != first


@pytest.mark.parametrize('name', ['r.py', 'r.yaml'])
def test_recipe_of_a_config(flan, tmp_path, name):
    texts = {
        'r.py': "recipe = dict(parts=dict(t0=dict(algorithm='random', size=7)))",
        'r.yaml': 'recipe:\n  parts:\n    t0: {algorithm: random, size: 7}\n',
    }
    config, out = tmp_path / name, tmp_path / 'q.jsonl'
    config.write_text(texts[name])
    call('sample_queries', flan, '--out', out, '--config', config)
    assert [each.sub_collection for each in queries(out)] == ['t0'] * 7
    config.write_text(texts[name].replace('size', 'sise'))
    with pytest.raises(UserError, match=f'{name}: recipe: parts.t0.sise: Extra'):
        call('sample_queries', flan, '--out', out, '--config', config)
    config.write_text('other = 1' if name == 'r.py' else 'other: 1')
    with pytest.raises(UserError, match=f'{name}: needs recipe'):
        call('sample_queries', flan, '--out', out, '--config', config)


def test_second_stage_is_a_part_of_the_first_as_it_is(flan, tmp_path):
    one, two = tmp_path / 'one.jsonl', tmp_path / 'two.jsonl'
    call('sample_queries', flan, '--out', one, '--part', 't0=all')
    call('sample_queries', one, '--format', 'query', '--out', two, '--uniform', 11)
    assert len(list(queries(two))) == 11
    assert set(two.read_text().splitlines()) < set(one.read_text().splitlines())


def test_mistakes_of_sampling(flan, tmp_path):
    out = tmp_path / 'q.jsonl'
    with pytest.raises(UserError, match="sets has no sub-collection 'niv'.*'niv2'"):
        call('sample_queries', flan, '--out', out, '--part', 'niv=all')
    flan.write_text(flan.read_text() + '{"inputs": 1}\n')
    with pytest.raises(UserError, match='flan.jsonl:181: inputs must be a text'):
        call('sample_queries', flan, '--out', out)
    assert not out.exists()
    call('sample_queries', flan, '--out', out, '--skip-bad', '--summary', tmp_path / 's.json')
    about = json.loads((tmp_path / 's.json').read_text())
    assert about['bad']['count'] == 1 and about['queries'] == 60  # the mixture of Orca takes all


def test_traces_of_a_folder_with_filters(tmp_path, capsys):
    folder = tmp_path / 'run'
    folder.mkdir()
    run = ' '.join(f'w{n}' for n in range(13))
    (tmp_path / 'eval.txt').write_text(run)
    traces = [
        make_trace('a', license_tag='MIT'),
        make_trace('b', 'q2', answer=' ', license_tag='MIT'),
        make_trace('c', 'q3', finish_reason='length', license_tag='MIT'),
        make_trace('d', 'q4'),
        make_trace('e', 'q5', answer="I'm sorry, but no", license_tag='MIT'),
        make_trace('f', run, license_tag='MIT'),
    ]
    for n in range(2):
        lines = [each.model_dump_json() + '\n' for each in traces[n::2]]
        (folder / f'{n}.jsonl').write_text(''.join(lines))
    out = tmp_path / 'all.parquet'
    options = ['--refusals', '--require-license', 'MIT', '--contamination', tmp_path / 'eval.txt']
    assert call('compact_traces', folder, '--out', out, *options) == 0
    rules = ['empty', 'finish_reason', 'license', 'refusal', 'contamination']
    found = [each.status for each in read_parquet(out)]
    assert found == ['ok', *(f'filtered:{rule}' for rule in rules)]
    about = json.loads((tmp_path / 'all.parquet.summary.json').read_text())
    assert about['counts']['teachers']['t'] == dict.fromkeys(found, 1)
    assert about['reports']['contamination']['files'][0]['traces'] == 1
    assert '6 traces are in' in capsys.readouterr().out
    call('compact_traces', folder, '--out', out, '--no-filters')
    assert {each.status for each in read_parquet(out)} == {'ok'}
    config = tmp_path / 'c.py'
    config.write_text("filters = [dict(type='mmkd.UnlicensedTrace', tags=['MIT'])]")
    call('compact_traces', folder, '--out', out, '--config', config)
    assert sum(each.status == 'filtered:license' for each in read_parquet(out)) == 1


def test_import_of_openorca(tmp_path):
    rows = [
        dict(id=f'cot.{n}', system_prompt='s', question=f'q{n % 2}', response=f'r{n}')
        for n in range(3)
    ]
    path, out = tmp_path / 'a.jsonl', tmp_path / 'all.parquet'
    path.write_text('\n'.join(map(json.dumps, rows)))
    options = ['--out', out, '--format', 'openorca']
    with pytest.raises(UserError, match='--format openorca needs --teacher'):
        call('compact_traces', path, *options)
    options += ['--teacher', 'gpt-4', '--license-tag', 'MIT']
    with pytest.raises(UserError, match='a.jsonl:1 and .*a.jsonl:3 have the same row_key'):
        call('compact_traces', path, *options)
    call('compact_traces', path, *options, '--conflicts', 'first')
    found = [(each.source_uid, each.teacher, each.license_tag) for each in read_parquet(out)]
    assert found == [('cot.0', 'gpt-4', 'MIT'), ('cot.1', 'gpt-4', 'MIT')]
    assert pq.read_metadata(out).num_rows == 2


def test_mistakes_of_compacting(tmp_path):
    out = tmp_path / 'all.parquet'
    for options, said in (
        ([tmp_path], r'there are no \*.jsonl or \*.parquet in this folder'),
        ([tmp_path / 'a.jsonl'], 'a.jsonl: there is no such file'),
        ([tmp_path, '--tokenizer', 'x'], '--max-prompt-tokens and --tokenizer need each other'),
        ([tmp_path, '--teacher', 'x'], 'are for OpenOrca and SlimOrca alone'),
    ):
        with pytest.raises(UserError, match=said):
            call('compact_traces', *options, '--out', out)


def test_progress_passes_everything_and_speaks_now_and_then(monkeypatch, capsys):
    times = iter(range(100))
    monkeypatch.setattr('mmkd.traces.progress.time.monotonic', lambda: next(times))
    assert list(watched('abcdefgh', 'read', every=3)) == list('abcdefgh')
    said = capsys.readouterr().err.splitlines()
    assert said == ['read: 3 rows, 1 a second', 'read: 6 rows, 1 a second']
