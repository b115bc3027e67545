"""The command line: a model answers benchmarks, and a judge compares two files of answers."""

import importlib.util
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_language import Judge, network, queries, tokenizer

from mmdistill.core.errors import UserError
from mmkd.collection.answers import Job, trace_of
from mmkd.registry import TEACHERS
from mmkd.teachers.base import Reply
from mmkd.traces.schema import ARROW, Sampling, Trace, row_key, to_columns

TOOLS = Path(__file__).resolve().parents[2] / 'tools'


def tool(name):
    """A command line tool as a module."""
    spec = importlib.util.spec_from_file_location(f'tool_{name}', TOOLS / f'{name}.py')
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture
def model(tmp_path):
    """A folder of a network and its tokenizer."""
    network().save_pretrained(tmp_path / 'student')
    tokenizer().save_pretrained(tmp_path / 'student')
    return str(tmp_path / 'student')


def test_evaluate(model, tmp_path, capsys):
    tasks = tmp_path / 'tasks'
    tasks.mkdir()
    rows = [dict(input=f'{n}?\nOptions:\n(A) x\n(B) y', target='(A)') for n in range(3)]
    (tasks / 'letters.json').write_text(json.dumps(dict(examples=rows)))
    line = json.dumps(dict(question='1?', options=['(A)x', '(B)y', '(C)z'], label='C'))
    (tmp_path / 'sat.jsonl').write_text(line)
    (tmp_path / 'own.jsonl').write_text(queries('Why?')[0].model_dump_json())
    out, answers = tmp_path / 'scores.json', tmp_path / 'answers.jsonl'
    words = [model, '--bbh', str(tasks), '--agieval', str(tmp_path / 'sat.jsonl')]
    words += ['--queries', str(tmp_path / 'own.jsonl'), '--limit', '2', '--loglik', 'sum']
    words += ['--max-new-tokens', '4', '--cache', str(tmp_path / 'cache.jsonl')]
    words += ['--answers', str(answers), '--out', str(out)]
    assert tool('evaluate_traces').main(words) == 0
    found, table = json.loads(out.read_text()), capsys.readouterr().out
    assert found['counts'] == dict(
        letters=dict(n=2, choice=2), sat=dict(n=1, choice=1), task=dict(n=1, choice=0)
    )
    assert found['scores']['n/letters'] == 2 and found['scores']['loglik/letters'] in (0, 50, 100)
    assert 'format_penalty' in found['scores'] and 'letters' in table and 'loglik' in table
    traces = [Trace.model_validate_json(line) for line in answers.read_text().splitlines()]
    assert len(traces) == 4 and {each.teacher for each in traces} == {'student'}
    assert traces[0].user_text == rows[0]['input'] and traces[0].target == 'A'
    assert {each.status for each in traces} <= {'ok', 'truncated', 'empty'}
    before = (tmp_path / 'cache.jsonl').read_bytes()
    assert tool('evaluate_traces').main(words) == 0
    assert (tmp_path / 'cache.jsonl').read_bytes() == before
    assert json.loads(out.read_text()) == found


def test_nothing_to_evaluate(model):
    with pytest.raises(UserError, match='give --bbh, --agieval or --queries'):
        tool('evaluate_traces').main([model])


def test_judge(tmp_path, capsys):
    def traces(grades):
        """Answers that are their own grades."""
        found = []
        for query, grade in zip(queries('a', 'b', 'c'), grades, strict=True):
            sampling = Sampling()
            job = Job(row_key(query, 'model', sampling), query)
            status = 'ok' if grade else 'failed'
            found.append(trace_of(job, 'model', sampling, Reply(grade, status=status)))
        return found

    columns = [to_columns(each) for each in traces(['8', '10', '9'])]
    pq.write_table(pa.Table.from_pylist(columns, ARROW), tmp_path / 'reference.parquet')
    lines = [each.model_dump_json() + '\n' for each in traces(['4', '5', ''])]
    (tmp_path / 'candidate.jsonl').write_text(''.join(lines))
    (tmp_path / 'judge.py').write_text("teacher = dict(type='GradesInAnswers')")
    words = [str(tmp_path / name) for name in ('reference.parquet', 'candidate.jsonl')]
    words += ['--judge', str(tmp_path / 'judge.py'), '--out', str(tmp_path / 'scores.json')]
    words += ['--cache', str(tmp_path / 'judged.jsonl')]
    calls = []

    def judge():
        """Grades that stand in the answers."""
        return Judge(lambda first, second: calls.append(1) or f'Scores: {first} {second}')

    TEACHERS.register_module(name='GradesInAnswers', module=judge, force=True)
    try:
        assert tool('judge_answers').main(words) == 0
        assert tool('judge_answers').main(words) == 0
    finally:
        TEACHERS.module_dict.pop('GradesInAnswers')
    assert len(calls) == 4
    found = json.loads((tmp_path / 'scores.json').read_text())
    assert found['relative/all'] == pytest.approx(50) and found['n/all'] == 2
    assert '50.0 %' in capsys.readouterr().out
    (tmp_path / 'candidate.jsonl').write_text(lines[2])
    with pytest.raises(UserError, match='answers no question that'):
        tool('judge_answers').main(words)
