"""The tool that imports frames, from the command line to the table; it prints no statement."""

import importlib.util
import sys
from pathlib import Path

import pytest
from frame_table_cases import TRICKY, released, save_csv, slots

from mmdistill.core.errors import UserError, run_tool
from mmkd.cobra.schema import CONTEXT, SLOTS
from mmkd.cobra.tables.importers import read_frames_csv, write_own_csv
from mmkd.cobra.tables.table import read_frames, read_frames_metadata

TOOL = Path(__file__).parents[2] / 'tools' / 'import_frames.py'
CANARY = 'canary'


def tool():
    """The module of the tool."""
    spec = importlib.util.spec_from_file_location('tool_import_frames', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(*args, accept=True):
    """Runs it in this process."""
    consent = ['--accept-content-warning'] if accept else []
    return tool().main([*map(str, args), *consent])


def rows(statements=40, **more):
    """Two contexts of each statement, labelled 0 and 1 where the number is even."""
    return [
        released(
            slots(
                n,
                situation=f'{CANARY} meeting {k}',
                statement=f'{CANARY} {n} is a fine report.',
                offensiveness=TRICKY[n % len(TRICKY)],
            ),
            offensive_majority=f'{float(k)}' if n % 2 == 0 else '-1',
            examples=f'{CANARY}\n',
            **more,
        )
        for n in range(statements)
        for k in range(2)
    ]


def test_a_file_becomes_a_table(tmp_path, capsys):
    """All frames in their order, with metadata of where they come from."""
    path, out = save_csv(tmp_path / 'a.csv', rows()), tmp_path / 'out.parquet'
    assert call(path, '--out', out) == 0
    assert read_frames(out) == read_frames_csv(path, accept_content_warning=True)
    about = read_frames_metadata(out)
    assert about['inputs'][0]['file'] == 'a.csv' and about['inputs'][0]['frames'] == 80
    assert len(about['inputs'][0]['sha256']) == 64
    assert about['counts']['label_majority'] == {'-1': 40, '0': 20, '1': 20}
    said = capsys.readouterr().out.splitlines()
    assert said[:3] == ['a.csv: 80 frames', 'frames: 80', 'statements: 40']
    assert 'empty: offensiveness 12' in said  # '' and ' ' are two of twelve texts
    assert said[-1] == f'80 frames are in {out}'
    first = out.read_bytes()
    call(path, '--out', out)
    assert out.read_bytes() == first


def test_several_files_with_repeated_frames(tmp_path, capsys):
    """Every row is there, and every id is another one."""
    one, two = (save_csv(tmp_path / f'{name}.csv', rows(3)) for name in 'ab')
    call(one, two, '--out', tmp_path / 'o.parquet')
    frames = read_frames(tmp_path / 'o.parquet')
    assert [each.source for each in frames] == ['a'] * 6 + ['b'] * 6
    assert [each.frame_id for each in frames[6:]] == [f'{f.frame_id}#2' for f in frames[:6]]
    assert 'repeats: 6' in capsys.readouterr().out.splitlines()


def test_pairs(tmp_path, capsys):
    """Of decided labels; undecided ones if wanted."""
    path, out = save_csv(tmp_path / 'a.csv', rows()), tmp_path / 'out.parquet'
    for options, count in (([], 0), (['--pairs'], 20), (['--pairs', '--undecided'], 40)):
        call(path, '--out', out, *options)
        assert len({each.pair_id for each in read_frames(out)} - {None}) == count
        assert (f'pairs: {count}' in capsys.readouterr().out.splitlines()) == bool(count)


def test_splits(tmp_path, capsys):
    """Official needs the order of the file, grouped takes a share, a seed and strata."""
    path, out = save_csv(tmp_path / 'a.csv', rows(501)), tmp_path / 'out.parquet'
    call(path, '--out', out, '--split', 'official')
    assert [each.split for each in read_frames(out)] == ['train'] * 2 + ['val'] * 1000
    assert 'splits: train 2, val 1000' in capsys.readouterr().out.splitlines()
    found = {}
    for seed in (0, 1):
        options = ['--split', 'grouped', '--val', 0.2, '--seed', seed]
        call(path, '--out', out, *options, '--stratify', 'label_majority')
        frames = read_frames(out)
        val = [each for each in frames if each.split == 'val']
        assert abs(len(val) / 1002 - 0.2) <= 0.01
        assert abs(sum(each.label_majority == -1 for each in val) / len(val) - 0.5) <= 0.02
        found[seed] = {each.statement_id for each in val}
        assert not found[seed] & {each.statement_id for each in frames if each.split == 'train'}
    assert found[0] != found[1]
    assert read_frames_metadata(out)['options']['seed'] == 1


def test_other_formats(tmp_path):
    """Wide rows, and our own columns, whose frames are the same again."""
    row = dict(statement='A fine report.')
    for kind in ('harmless', 'offensive'):
        row |= {f'{kind}_{name}': f'{kind} {name}' for name in CONTEXT}
    call(
        save_csv(tmp_path / 'w.csv', [row]),
        '--out',
        tmp_path / 'w.parquet',
        '--format',
        'wide',
    )
    frames = read_frames(tmp_path / 'w.parquet')
    assert [each.side for each in frames] == ['A', 'B'] and frames[0].missing() == SLOTS
    write_own_csv(tmp_path / 'own.csv', frames)
    call(tmp_path / 'own.csv', '--out', tmp_path / 'own.parquet', '--format', 'own')
    assert read_frames(tmp_path / 'own.parquet') == frames


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (['--split', 'official'], 'needs at least 1001, got 80'),
        (['--split', 'official', '--seed', 1], '--seed needs --split grouped'),
        (['--val', 0.2], '--val needs --split grouped'),
        (['--stratify', 'group'], '--stratify needs --split grouped'),
        (['--split', 'grouped', '--val', 1.0], '--val: must be between 0 and 1, got 1.0'),
        (['--split', 'grouped', '--stratify', 'group'], 'no frame has group'),
        (['--undecided'], '--undecided needs --pairs'),
        (['--format', 'own', '--group-column', 'x'], '--group-column is for files as released'),
        (['--group-column', 'x'], 'has no column x'),
    ],
)
def test_options_that_do_not_fit(tmp_path, options, said):
    """Nothing is written."""
    path = save_csv(tmp_path / 'a.csv', rows())
    with pytest.raises(UserError, match=said):
        call(path, '--out', tmp_path / 'o.parquet', *options)
    assert [each.name for each in tmp_path.iterdir()] == ['a.csv']


def test_a_file_without_rows(tmp_path):
    """Is a mistake."""
    path = tmp_path / 'a.csv'
    path.write_text(','.join(rows(1)[0]) + '\n')
    with pytest.raises(UserError, match='a.csv: there are no frames to import'):
        call(path, '--out', tmp_path / 'o.parquet')


def test_consent_is_an_option_of_its_own(tmp_path):
    """Without it nothing is read."""
    with pytest.raises(UserError, match='--accept-content-warning'):
        call(tmp_path / 'none.csv', '--out', tmp_path / 'o.parquet', accept=False)


def failing(tmp_path):
    """Files that cannot be imported, all of them with statements."""
    good, name = rows(2), 'offensive_majority'
    yield save_csv(tmp_path / 'label.csv', [{**good[0], name: good[0]['statement']}])
    lines = save_csv(tmp_path / 'lines.csv', good).read_text()
    for number, content in enumerate(
        [lines + CANARY, lines + f'"{CANARY}', lines.split('\n', 1)[1]]
    ):
        path = tmp_path / f'bad{number}.csv'
        path.write_text(content)
        yield path
    path = tmp_path / 'latin.csv'
    path.write_bytes(lines.encode() + f'{CANARY} é'.encode('latin-1'))
    yield path


def test_nothing_that_is_printed_holds_a_statement(tmp_path, capfd, monkeypatch):
    """In all that goes well, and in all messages of what does not."""
    path, out = save_csv(tmp_path / 'a.csv', rows()), tmp_path / 'out.parquet'
    for options in ([], ['--pairs', '--undecided'], ['--split', 'grouped', '--pairs']):
        call(path, '--out', out, *options)
    call(path, path, '--out', out)
    printed = capfd.readouterr()
    assert 'frames are in' in printed.out and CANARY not in printed.out + printed.err
    for bad in failing(tmp_path):
        assert CANARY in bad.read_text('latin-1')
        args = ['x', str(bad), '--out', str(out), '--accept-content-warning']
        monkeypatch.setattr(sys, 'argv', args)
        with pytest.raises(SystemExit) as ended:
            run_tool(tool().main)
        printed = capfd.readouterr()
        assert ended.value.code == 2 and printed.err.count('\n') == 1
        assert f'error: {bad}' in printed.err and CANARY not in printed.out + printed.err
    about = str(read_frames_metadata(out))
    assert CANARY not in about and 'repeats' in about
