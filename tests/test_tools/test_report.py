"""The documents' tables follow the results, and a check tells when they do not."""

import json

import pytest


@pytest.fixture
def report(tools, tmp_path):
    """Runs the report on a small repository."""
    from benchmark import report

    (tmp_path / 'docs' / 'results').mkdir(parents=True)
    (tmp_path / 'README.md').write_text(
        '# x\n<!-- results:hssda -->\nold\n<!-- /results:hssda -->\nkept\n'
    )
    (tmp_path / 'docs' / 'hssda.md').write_text(
        'a\n<!-- results:hssda-speed --><!-- /results:hssda-speed -->\nb\n'
    )
    (tmp_path / 'configs' / 'hssda').mkdir(parents=True)
    zoo = tmp_path / 'configs' / 'hssda' / 'README.md'
    zoo.write_text('<!-- results:hssda --><!-- /results:hssda -->\n')
    write(tmp_path, 45.0)
    return lambda *args: report.main(['--root', str(tmp_path), *args])


def write(root, value):
    """Two results as the benchmarks write them."""
    from benchmark.tables import summarise

    rows = [
        {'label': label, 'seed': seed, 'metrics': {'mAP40_3D_moderate': mean + seed}}
        for label, mean in (('supervised', 38.0), ('HSSDA', value))
        for seed in (0, 2)
    ]
    for row, commit in zip(rows, ('a11', 'b22', 'a11', 'a11'), strict=True):
        row.update(commit=commit, seconds=100.0)
    common = dict(name='hssda', command='python x', commit='abc', versions={'torch': '2'})
    common.update(hardware={'cpu': 'z80', 'cores': 2}, wall_seconds=61.0, quick=False)
    gain = dict(common, seeds=[0, 2], rows=rows, summary=summarise(rows))
    step = {'label': 'cpu: parts of the step, ms', 'metrics': {'forward': 3.0}, 'seed': 0}
    speed = dict(common, kind='speed', ratio=1.0813, rows=[step], summary=[])
    for name, result in (('hssda_gain', gain), ('hssda_speed', speed)):
        (root / 'docs' / 'results' / f'{name}.json').write_text(json.dumps(result))


def test_documents_follow_the_results(report, tmp_path, capsys):
    assert report('--check') == 1
    assert 'old' in (tmp_path / 'README.md').read_text()
    assert report() == 0
    readme = (tmp_path / 'README.md').read_text()
    assert '| **HSSDA** |' in readme and '**46.0 ± 1.4**' in readme and '39.0 ± 1.4' in readme
    assert 'old' not in readme and readme.endswith('kept\n') and 'z80' in readme
    page = (tmp_path / 'docs' / 'hssda.md').read_text()
    assert '**46.0 ± 1.4**' in (tmp_path / 'configs' / 'hssda' / 'README.md').read_text()
    assert '**1.08**' in page and page.startswith('a\n') and page.endswith('b\n')
    for name in ('hssda_gain', 'hssda_speed'):
        assert (tmp_path / 'docs' / 'results' / f'{name}.md').is_file()
        picture = (tmp_path / 'docs' / 'results' / f'{name}.png').read_bytes()
        assert picture[:4] == b'\x89PNG'
    capsys.readouterr()
    assert report('--check') == 0
    assert 'up to date' in capsys.readouterr().out


def test_the_origin_is_that_of_the_rows(report, tmp_path):
    """A later call that only adds a row does not date all of them."""
    report()
    readme = (tmp_path / 'README.md').read_text()
    assert 'commits a11, b22, torch 2' in readme and '6:40.' in readme
    assert 'abc' not in readme and '1:01' not in readme
    page = (tmp_path / 'docs' / 'hssda.md').read_text()
    assert 'commit abc, torch 2' in page and '1:01.' in page


def test_numbers_that_are_missing_are_left_out(report, tmp_path):
    path = tmp_path / 'docs' / 'results' / 'hssda_gain.json'
    result = json.loads(path.read_text())
    result['rows'][0]['metrics'] = {'mAP40_3D_moderate': None}
    path.write_text(json.dumps(result))
    speed = path.with_name('hssda_speed.json')
    result = json.loads(speed.read_text())
    result['rows'][0]['metrics']['backward'] = None
    speed.write_text(json.dumps(result))
    assert report() == 0
    assert '| backward |  |' in (tmp_path / 'docs' / 'hssda.md').read_text()


def test_new_results_make_documents_old(report, tmp_path, capsys):
    report()
    write(tmp_path, 50.0)
    capsys.readouterr()
    assert report('--check') == 1
    said = capsys.readouterr().out
    assert 'README.md: out of date' in said and 'hssda_gain.png: out of date' in said
    assert 'hssda_speed' not in said
    report()
    assert report('--check') == 0


def test_a_second_run_changes_nothing(report, tmp_path):
    report()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')}
    report()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')} == before


def test_a_lone_marker_is_refused(report, tmp_path):
    (tmp_path / 'README.md').write_text('<!-- results:hssda -->\n')
    with pytest.raises(SystemExit, match='pairs'):
        report()


def test_a_comparison_on_other_data_has_a_table_of_its_own(tools, tmp_path):
    from benchmark.tables import summarise

    from benchmark import report

    values = {'supervised': 31.0, 'TRS': 35.5}
    rows = [
        {'label': label, 'seed': 0, 'metrics': {'coco/AP': value, 'teacher/coco/AP': value}}
        for label, value in values.items()
    ]
    rows += [{'label': 'TRS, mouse', 'seed': 0, 'metrics': {'PCK': 77.0, 'EPE': 3.5}}]
    for row in rows:
        row.update(commit='a11', seconds=100.0)
    result = dict(name='trs', command='python x', commit='abc', versions={'torch': '2'})
    result.update(hardware={'cpu': 'z80', 'cores': 2}, wall_seconds=61.0, seeds=[0])
    result.update(rows=rows, summary=summarise(rows))
    (tmp_path / 'docs' / 'results').mkdir(parents=True)
    (tmp_path / 'docs' / 'trs.md').write_text('<!-- results:trs -->old<!-- /results:trs -->\n')
    short = '<!-- results:trs-main --><!-- /results:trs-main -->\n'
    (tmp_path / 'README.md').write_text(short)
    (tmp_path / 'docs' / 'results' / 'trs_gain.json').write_text(json.dumps(result))
    assert report.main(['--root', str(tmp_path)]) == 0
    people, mouse = (tmp_path / 'docs' / 'trs.md').read_text().split('| PCK |')
    assert '| **TRS** | **35.5** |' in people and 'mouse' not in people
    assert '| **TRS, mouse** | **77.0** | **3.5** |' in mouse and 'python x' in mouse
    # the short form has the first table, and the time of its rows alone
    main = (tmp_path / 'README.md').read_text()
    assert '| **TRS** | **35.5** |' in main and 'mouse' not in main and 'PCK' not in main
    assert 'docs/results/trs_gain.json' in main and 'python x' not in main and '3:20.' in main
    assert (tmp_path / 'docs' / 'results' / 'trs_gain.png').is_file()
    assert report.main(['--root', str(tmp_path), '--check']) == 0
