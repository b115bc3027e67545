"""The tool: what it asks for, writes and shows, and what it keeps to itself."""

import csv
import importlib.util
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from frame_teachers import ScriptedFrameTeacher, demonstrations, write_lines

from mmdistill.core.errors import UserError, run_tool
from mmkd.cobra.schema import CONTEXT
from mmkd.cobra.tables.table import read_frames, read_frames_metadata, write_frames
from mmkd.collection.plan import read_plan
from mmkd.collection.run import collect_shard
from mmkd.collection.shards import Shard

TOOL = Path(__file__).parents[2] / 'tools' / 'generate_frames.py'
CANARY = 'tangerine umbrella'
KEY = 'canary-77aa41c9'


@pytest.fixture(scope='module')
def tool():
    """The module of the tool."""
    spec = importlib.util.spec_from_file_location('generate_frames', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def arguments(tmp_path):
    """A command of ten statements, one of which is refused and one muddled."""
    teacher = dict(
        type='ScriptedFrameTeacher',
        log=str(tmp_path / 'log'),
        rules=dict(decline='refuse', mumble='explanations:muddle'),
    )
    config = tmp_path / 'config.py'
    config.write_text(
        "custom_imports = dict(imports=['frame_teachers'])\n"
        f'teacher = {teacher!r}\ngeneration = dict(shots=dict(contexts=2, explanations=3))\n'
    )
    words = ['decline', 'mumble', *['thanks'] * 8]
    rows = [
        dict(statement=f'A {CANARY} for {n}, {word}.', group='nurses')
        for n, word in enumerate(words)
    ]
    write_lines(tmp_path / 'statements.jsonl', rows)
    write_frames(tmp_path / 'demos.parquet', demonstrations())
    return [
        str(config),
        *('--statements', str(tmp_path / 'statements.jsonl')),
        *('--demonstrations', str(tmp_path / 'demos.parquet')),
        *('--run-dir', str(tmp_path / 'run')),
        *('--out', str(tmp_path / 'frames.parquet')),
        '--accept-content-warning',
    ]


def calls(tmp_path):
    log = tmp_path / 'log'
    return Counter(log.read_text().split()) if log.exists() else {}


def test_frames_of_all_statements_are_in_the_table(tool, arguments, tmp_path, capsys):
    assert tool.main([*arguments, '--all-rows']) == 0
    said = capsys.readouterr().out
    assert 'contexts: 30 of 30 rows, 10.0% refused: 27 ok, 3 refused' in said
    assert 'explanations: 27 of 27 rows, 0.0% refused: 3 malformed, 24 ok' in said
    assert '30 of 30 frames, 24 whole ones, are in' in said and 'nurses' not in said, (
        'too few for a rate'
    )
    frames = read_frames(tmp_path / 'frames.parquet')
    statuses = Counter(each.provenance.status for each in frames)
    assert statuses == dict(ok=24, refused=3, malformed=3)
    assert {each.group for each in frames} == {'nurses'}
    about = read_frames_metadata(tmp_path / 'frames.parquet')
    assert about == dict(statuses=statuses, ended='done')
    report = json.loads((tmp_path / 'run' / 'report.json').read_text())
    assert report['contexts']['groups']['nurses'] == dict(rows=30, statuses=dict(ok=27, refused=3))
    before, asked = (tmp_path / 'frames.parquet').read_bytes(), calls(tmp_path)
    assert tool.main([*arguments, '--all-rows']) == 0
    assert (tmp_path / 'frames.parquet').read_bytes() == before and calls(tmp_path) == asked
    assert tool.main(arguments) == 0
    whole = read_frames(tmp_path / 'frames.parquet')
    assert len(whole) == 24 and not any(each.missing() for each in whole)


def test_stages_one_by_one_and_limits(tool, arguments, tmp_path, capsys):
    with pytest.raises(UserError, match='contexts: 0 of 30 rows are there'):
        tool.main([*arguments, '--stage', 'explanations'])
    assert tool.main([*arguments, '--stage', 'contexts', '--max-rows', '9']) == 3
    assert 'stopped (limit): run the same command again' in capsys.readouterr().out
    assert tool.main([*arguments, '--stage', 'contexts']) == 0
    assert calls(tmp_path) == dict(contexts=30)
    frames = read_frames(tmp_path / 'frames.parquet')
    assert Counter(f.provenance.status for f in frames) == dict(unexplained=27)
    assert not any(each.missing(CONTEXT) for each in frames)
    assert tool.main([*arguments, '--stage', 'explanations']) == 0
    assert calls(tmp_path) == dict(contexts=30, explanations=27)
    assert tool.main([*arguments, '--retry', 'malformed']) == 0
    assert calls(tmp_path) == dict(contexts=30, explanations=30)


def test_pairs_checks_and_options_of_the_command_line(tool, arguments, tmp_path):
    options = ['--cfg-options', 'generation.shots.contexts=1', '+generation.selection=diverse']
    assert tool.main([*arguments, '--counterfactual', '--check', *options]) == 0
    assert calls(tmp_path) == dict(check=10, counterfactual=9, explanations=18)
    frames = read_frames(tmp_path / 'frames.parquet')
    assert Counter(each.side for each in frames) == dict(A=8, B=8)
    manifest = json.loads((tmp_path / 'run/counterfactual/prompts/manifest.json').read_text())
    assert manifest['settings']['selection'] == 'diverse'


def test_ray_gets_plans_that_can_be_sent(tool, arguments, tmp_path, monkeypatch):
    def collect(config, shards):
        plan = read_plan(json.loads(json.dumps(config)), 'the plan')
        return [collect_shard(plan, Shard(index, shards)) for index in range(shards)]

    monkeypatch.setattr(tool, 'collect_on_ray', collect)
    assert tool.main([*arguments, '--ray', '2']) == 0
    assert calls(tmp_path) == dict(contexts=30, explanations=27)
    assert (tmp_path / 'run/explanations/traces-00001.jsonl').exists()


@pytest.mark.parametrize('suffix', ['.csv', '.parquet'])
def test_statements_of_other_files(tool, arguments, tmp_path, suffix):
    rows = [json.loads(line) for line in (tmp_path / 'statements.jsonl').open()]
    path = tmp_path / f'statements{suffix}'
    if suffix == '.csv':
        with path.open('w', newline='') as file:
            writer = csv.DictWriter(file, ['group', 'statement'])
            writer.writeheader()
            writer.writerows(rows)
    else:
        assert tool.main([*arguments, '--stage', 'contexts', '--all-rows']) == 0
        (tmp_path / 'frames.parquet').rename(path)
    arguments[2] = str(path)
    assert tool.main([*arguments, '--stage', 'contexts']) == 0
    assert calls(tmp_path) == dict(contexts=30), 'the same statements'


def test_nothing_is_done_without_consent(tool, arguments, tmp_path, capsys):
    with pytest.raises(UserError, match='offensive .*--accept-content-warning'):
        tool.main(arguments[:-1])
    assert not (tmp_path / 'run').exists()
    with pytest.raises(SystemExit) as end:
        run_tool(lambda: tool.main(arguments[:-1]))
    assert end.value.code == 2
    assert capsys.readouterr().err.count('\n') == 1


@pytest.fixture
def endpoint():
    """Address of a server that answers as the script does, and repeats keys in its errors."""
    teacher = ScriptedFrameTeacher()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            """Answers, or complains of the statements that are to be declined."""
            body = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
            kind, statement = teacher.read(body['messages'])
            if 'decline' in statement:
                error = dict(message=f'wrong: {self.headers["Authorization"]}')
                return self.send(400, dict(error=error))
            message = dict(role='assistant', content=teacher.reply(kind, '').text)
            return self.send(200, dict(choices=[dict(message=message, finish_reason='stop')]))

        def send(self, status, content):
            """Sends JSON."""
            content = json.dumps(content).encode()
            self.send_response(status)
            self.send_header('Content-Length', str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            """Says nothing."""

    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f'http://127.0.0.1:{server.server_port}/v1'
    server.shutdown()
    server.server_close()
    thread.join()


def test_no_text_and_no_key_gets_out(
    tool, arguments, endpoint, tmp_path, capfd, monkeypatch, caplog
):
    import mmkd.teachers.openai_compat  # noqa: F401

    monkeypatch.setenv('FRAMES_TEST_KEY', KEY)
    endpoints = dict(base_url=endpoint, api_key_env='FRAMES_TEST_KEY')
    teacher = dict(type='OpenAICompatTeacher', name='model', endpoints=endpoints)
    (tmp_path / 'config.py').write_text(f'teacher = {teacher!r}\n')
    with caplog.at_level(0):
        assert tool.main(arguments) == 0
        with pytest.raises(UserError) as refused:
            tool.main([*arguments, '--cfg-options', '+generation.shots.contexts=3'])
        arguments[4] = str(write_few(tmp_path))
        shots = ['+generation.shots.contexts=1', '+generation.shots.explanations=1']
        with pytest.raises(UserError) as few:
            tool.main([*arguments, '--run-dir', str(tmp_path / 'few'), '--cfg-options', *shots])
    said = ''.join(capfd.readouterr()) + caplog.text + f'{refused.value}{few.value}'
    assert 'contexts: 30 of 30 rows, 0.0% refused: 3 failed, 27 ok' in said
    assert '1 demonstrations are wanted, but only 0 of 1' in said
    rows = (tmp_path / 'run' / 'contexts' / 'traces-00000.jsonl').read_text()
    assert rows.count('wrong: Bearer ***') == 3
    for secret in (CANARY, KEY, 'situation 1', 'of remark', 'topic'):
        assert secret not in said
    data = ('traces-00000.jsonl', 'queries.jsonl')
    files = [each for each in (tmp_path / 'run').rglob('*') if each.is_file()]
    others = {'manifest.json', 'demonstrations.jsonl', 'report.json', 'summary-00000.json'}
    assert {each.name for each in files} > {*data, *others}
    for each in [*files, tmp_path / 'frames.parquet']:
        content = each.read_bytes()
        assert KEY.encode() not in content
        if each.suffix != '.parquet':
            assert (CANARY.encode() in content) == (each.name in data), each
            assert (b'of remark' in content) == (each.name in data), each


def write_few(tmp_path):
    """A demonstration that speaks of the statement itself."""
    frame = demonstrations()[0].model_copy(
        update=dict(situation=f'somebody says: a {CANARY} for 0, decline')
    )
    return write_lines(tmp_path / 'few.jsonl', [frame.model_dump(mode='json')])


def test_text_is_shown_if_it_is_wanted_with_a_warning(tool, arguments, capsys):
    assert tool.main([*arguments, '--show-text']) == 0
    said = capsys.readouterr().out
    assert f'A {CANARY} for 2' in said and said.index('warning: the data hold') < said.index(CANARY)
    assert tool.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum('lengths' in line for line in lines) == 5
    assert CANARY not in ''.join(lines)


def test_another_configuration_is_refused(tool, arguments, tmp_path):
    assert tool.main(arguments) == 0
    before = calls(tmp_path)
    for options, said in (
        (['generation.shots.explanations=4'], 'settings.n_shots was 3 .* now it is 4'),
        (['+teacher.name=another'], "teacher was 'ScriptedFrameTeacher' .* is 'another'"),
        (['+generation.sampling.contexts.temperature=0.1'], 'sampling.temperature was 1.0'),
        (['+generation.shotz=1'], r'generation\.shotz: Extra inputs .*did you mean .shots.'),
        (['+sampling.temperature=1'], 'sampling: stages have their own'),
    ):
        with pytest.raises(UserError, match=said):
            tool.main([*arguments, '--cfg-options', *options])
    arguments[-2] = str(tmp_path / 'frames.csv')
    with pytest.raises(UserError, match=r'--out .*frames\.csv: must end in \.parquet'):
        tool.main(arguments)
    assert calls(tmp_path) == before
