"""The tool: what it does, its statuses, and that no key is written anywhere."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from collection_fakes import (
    read_json,
    rows_of,
    some_queries,
    some_traces,
    write_config,
    write_queries,
)

from mmdistill.core.errors import UserError
from mmkd.collection.journal import Journal, encoded
from mmkd.collection.plan import read_plan
from mmkd.traces.schema import Query

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def tool():
    """The module of the tool."""
    spec = importlib.util.spec_from_file_location(
        'collect_traces', PROJECT / 'tools' / 'collect_traces.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def config(tmp_path):
    """A config of ten questions."""
    return write_config(
        tmp_path / 'config.py',
        teacher=dict(type='FakeTeacher'),
        queries=str(write_queries(tmp_path / 'queries.jsonl', some_queries(10))),
        run_dir=str(tmp_path / 'run'),
        sampling=dict(temperature=0.5, max_tokens=99),
    )


def test_collects_and_goes_on(tool, config, tmp_path, capsys):
    assert tool.main([str(config), '--max-rows', '4']) == 3
    assert 'a limit is reached' in capsys.readouterr().out
    assert len(rows_of(tmp_path / 'run')) == 4
    assert tool.main([str(config)]) == 0
    said = capsys.readouterr().out
    assert '10 of 10 rows (100.0%)' in said and 'nothing is left' in said
    assert len({each.row_key for each in rows_of(tmp_path / 'run')}) == 10
    summary = read_json(tmp_path / 'run' / 'summary-00000.json')
    assert summary['ended'] == 'done' and summary['new'] == 6
    assert {each.sampling.max_tokens for each in rows_of(tmp_path / 'run')} == {99}


def test_shards_and_the_second_stage(tool, config, tmp_path, capsys):
    for index in range(2):
        assert tool.main([str(config), '--shard', f'{index}/2']) == 0
    two = ['--stage-two-from', str(tmp_path / 'run'), '--count', '6', '--seed', '1']
    arguments = [str(config), '--run-dir', str(tmp_path / 'two'), *two]
    assert tool.main([*arguments, '--cfg-options', '+teacher.name=gpt']) == 0
    one, found = rows_of(tmp_path / 'run'), rows_of(tmp_path / 'two')
    assert len(one) == 10 and len(found) == 6 and {each.teacher for each in found} == {'gpt'}
    assert {each.query_key for each in found} < {each.query_key for each in one}
    with pytest.raises(UserError, match='--stage-two-from needs --count'):
        tool.main([*arguments[:-4]])


@pytest.mark.parametrize(
    'values, said',
    [
        (dict(max_row=3), "unknown key 'max_row' .did you mean 'max_rows'"),
        (dict(sampling=dict(temprature=1)), 'sampling.temprature: Extra inputs'),
        (dict(max_cost=5), 'max_cost needs prices'),
        (dict(queries=None), 'give queries, or draw them with stage_two'),
        (dict(run_dir=None), 'run_dir: Field required'),
        (dict(samples=0), 'samples: Input should be greater than 0'),
    ],
)
def test_wrong_options_are_named(values, said):
    given = dict(teacher=dict(type='FakeTeacher'), queries='q.jsonl', run_dir='run', free=1)
    assert read_plan(given, 'config.py').queries == (Path('q.jsonl'),)
    with pytest.raises(UserError, match=said):
        read_plan({**given, **values}, 'config.py')


def test_prices_of_endpoints_serve_a_limit():
    endpoints = [dict(id='a', prompt_price=2.0), dict(base_url='x'), dict(completion_price=3)]
    teacher = dict(type='T', endpoints=endpoints)
    given = dict(teacher=teacher, queries='q', run_dir='run', max_cost=1)
    prices = read_plan(given, 'config.py').endpoint_prices()
    assert {name: (each.prompt, each.completion) for name, each in prices.items()} == {
        'a': (2.0, 0.0),
        'endpoint2': (0.0, 3.0),
    }


def test_no_file_of_a_run_holds_the_key(tool, tmp_path, monkeypatch, capsys):
    key = 'canary-5f2e9b71'
    monkeypatch.setenv('COLLECTION_TEST_KEY', key)
    server = subprocess.Popen(
        [sys.executable, Path(__file__).with_name('unreliable_server.py'), '2', '0'],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        address = f'http://127.0.0.1:{int(server.stdout.readline())}/v1'
        bad = Query(source_uid='bad', user_text='forbidden')
        config = write_config(
            tmp_path / 'config.py',
            teacher=dict(
                type='OpenAICompatTeacher',
                name='model',
                endpoints=dict(base_url=address, api_key_env='COLLECTION_TEST_KEY'),
            ),
            queries=str(write_queries(tmp_path / 'queries.jsonl', [bad, *some_queries(20)])),
        )
        import mmkd.teachers.openai_compat  # noqa: F401

        assert tool.main([str(config), '--run-dir', str(tmp_path / 'run')]) == 0
    finally:
        server.kill()
        server.wait()
    rows = rows_of(tmp_path / 'run')
    failed = [each for each in rows if each.status == 'failed']
    assert len(rows) == 21 and len(failed) == 1 and 'wrong: Bearer ***' in failed[0].error
    written = [each for each in (tmp_path / 'run').rglob('*') if each.is_file()]
    assert len(written) >= 4
    assert not any(key.encode() in each.read_bytes() for each in written)
    assert not re.search(key, ''.join(capsys.readouterr()))


def test_a_full_run_directory_of_the_first_stage_is_left_alone(tool, config, tmp_path):
    with Journal(tmp_path / 'one' / 'traces-00000.jsonl') as journal:
        journal.append([encoded(each) for each in some_traces(9)])
    before = (tmp_path / 'one' / 'traces-00000.jsonl').read_bytes()
    two = ['--stage-two-from', str(tmp_path / 'one'), '--count', '3']
    assert tool.main([str(config), *two]) == 0
    assert (tmp_path / 'one' / 'traces-00000.jsonl').read_bytes() == before
