"""From files of traces to a table: accepted rows alone, both kinds of files, the command line."""

import importlib.util
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from text_cases import many, text, tokenizer

from mmdistill.core.errors import UserError, run_tool
from mmkd.language import trace_rows
from mmkd.language.token_table import TokenTable
from mmkd.language.trace_rows import TraceRows
from mmkd.traces.schema import ARROW, Query, Sampling, Trace, row_key, to_columns

TOOL = Path(__file__).parents[2] / 'tools' / 'tokenize_traces.py'


def traces(count=30):
    """Traces, every fifth of which is refused."""
    found = []
    for number, (system, user, response) in enumerate(many(count)):
        query = Query(source_uid=str(number), system_text=system, user_text=user)
        found.append(
            Trace(
                **query.model_dump(),
                row_key=row_key(query, 'teacher', Sampling()),
                teacher='teacher',
                response_text=response,
                status='refused' if number % 5 == 0 else 'ok',
            )
        )
    return found


def write(path, rows):
    """A file of traces."""
    path.parent.mkdir(exist_ok=True, parents=True)
    if path.suffix == '.parquet':
        content = [to_columns(each) for each in rows]
        pq.write_table(pa.Table.from_pylist(content, ARROW), path)
    else:
        path.write_text(''.join(each.model_dump_json() + '\n' for each in rows))
    return path


@pytest.mark.parametrize('kind', ['parquet', 'jsonl'])
def test_accepted_rows_in_their_order(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(trace_rows, 'ROWS', 7)
    rows = traces()
    for number in range(3):
        write(tmp_path / 'run' / f'part-{number}.{kind}', rows[10 * number : 10 * number + 10])
    read = TraceRows([tmp_path / 'run'])
    found = list(read)
    accepted = [each for each in rows if each.status == 'ok']
    assert [tuple(each) for each in found] == [
        (each.row_key, each.system_text, each.user_text, each.response_text) for each in accepted
    ]
    assert read.source['skipped'] == dict(refused=6)
    assert [each['name'] for each in read.source['files']] == [
        f'part-{number}.{kind}' for number in range(3)
    ]
    assert len({each['sha256'] for each in read.source['files']}) == 3


def test_files_that_are_refused(tmp_path):
    for content, message in [
        (['nowhere'], 'nowhere: there is no such file'),
        ([str(tmp_path)], 'there is no .parquet or .jsonl file in it'),
    ]:
        with pytest.raises(UserError, match=message):
            TraceRows(content)
    (tmp_path / 'a.csv').write_text('a')
    with pytest.raises(UserError, match='a.csv: traces are .parquet or .jsonl files'):
        TraceRows([tmp_path / 'a.csv'])
    lines = write(tmp_path / 'a.jsonl', traces(3))
    table = write(tmp_path / 'a.parquet', traces(3))
    with pytest.raises(UserError, match='maybe of the same traces: name the files'):
        TraceRows([tmp_path])
    lines.write_text(lines.read_text()[:-30])
    with pytest.raises(UserError, match='a.jsonl, line 3: no trace'):
        list(TraceRows([lines]))
    table.write_bytes(table.read_bytes()[:-30])
    with pytest.raises(UserError, match='a.parquet cannot be read'):
        list(TraceRows([table]))
    for columns, message in [
        (dict(row_key=['a']), 'no column system_text'),
        (dict(row_key=[1]), 'column row_key is no text'),
    ]:
        pq.write_table(pa.table(columns), table)
        with pytest.raises(UserError, match=f'a.parquet: no traces: .*{message}'):
            list(TraceRows([table]))
    content = [dict(to_columns(each), response_text=None) for each in traces(2)]
    pq.write_table(pa.Table.from_pylist(content, ARROW), table)
    with pytest.raises(UserError, match='a.parquet: a row has no response_text'):
        list(TraceRows([table]))


@pytest.fixture
def tool():
    """The tool as a module."""
    spec = importlib.util.spec_from_file_location('tokenize_traces', TOOL)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_the_tool(tmp_path, tool, monkeypatch, capsys):
    monkeypatch.setattr(tool, 'SECONDS', 0)
    tokenizer().save_pretrained(tmp_path / 'tokenizer')
    write(tmp_path / 'run' / 'traces.parquet', traces())
    settings = ('--tokenizer', tmp_path / 'tokenizer', '--out', tmp_path / 'table')
    options = ('--template', 'chatml', '--empty-system', 'keep', '--max-len', 120)
    args = [str(each) for each in (tmp_path / 'run', *settings, *options)]
    assert tool.main(args) == 0
    done = capsys.readouterr()
    assert '24 traces, ' in done.err
    table = TokenTable.open(
        tmp_path / 'table', tokenizer(), dict(name='chatml', empty_system='keep')
    )
    accepted = [each for each in traces() if each.status == 'ok']
    answers = {each.row_key: f'{each.response_text}</s>' for each in accepted}
    for (tokens, prompt_len), key in zip(table, table.row_keys, strict=True):
        assert text(tokens[prompt_len:]) == answers[key.decode()]
    counts = table.meta.counts
    assert counts['read'] == 24 and counts['dropped'] == 24 - len(table) > 0
    assert table.meta.source['skipped'] == dict(refused=6)
    assert table.meta.source['files'][0]['name'] == 'traces.parquet'
    assert f'{len(table)} of 24 accepted traces' in done.out
    assert 'not accepted: 6 refused' in done.out
    full = {line.split(':')[0].strip(): line for line in done.out.splitlines()}
    assert f'none: {len(table)} packs of 120' in full['none'] and 'best_fit' in full
    with pytest.raises(SystemExit) as end:
        run_tool(lambda: tool.main(args))
    told = capsys.readouterr().err
    assert end.value.code == 2 and told.count('\n') == 1 and 'is there already' in told
