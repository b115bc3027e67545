"""The converters' command lines: whole folders or none, and one clear line per error."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / 'tools' / 'dataset_converters'
SMALL = ('--train', '5', '--val', '1', '--beams', '16', '--azimuth-step', '1')


def _run(tool: str, *args, code: int = 0) -> str:
    """Runs a converter; returns what it printed."""
    path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    done = subprocess.run(
        [sys.executable, str(TOOLS / tool), *map(str, args)],
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': path},
    )
    assert done.returncode == code, done.stderr
    assert 'Traceback' not in done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def generate(monkeypatch):
    """The folder generator of the tools."""
    monkeypatch.syspath_prepend(str(TOOLS))
    from generated_folder import generate

    return generate


def test_kitti_is_made_once(tmp_path):
    out = tmp_path / 'deep' / 'kitti'
    assert 'done' in _run('make_synthetic.py', 'kitti', '--out', out, *SMALL)
    files = {p: p.stat().st_mtime_ns for p in out.rglob('*')}
    assert out / 'kitti_infos_train.pkl' in files and out / 'ImageSets_semi' in files
    assert 'nothing to do' in _run('make_synthetic.py', 'kitti', '--out', out, *SMALL)
    assert {p: p.stat().st_mtime_ns for p in out.rglob('*')} == files
    said = _run('make_synthetic.py', 'kitti', '--out', out, *SMALL, '--seed', 1, code=2)
    assert str(out) in said and '--overwrite' in said
    assert {p: p.stat().st_mtime_ns for p in out.rglob('*')} == files
    _run('make_synthetic.py', 'kitti', '--out', out, *SMALL, '--seed', 1, '--overwrite')
    assert json.loads((out / 'manifest.json').read_text())['seed'] == 1
    assert [p.name for p in out.parent.iterdir()] == ['kitti']


def test_bad_counts_leave_nothing(tmp_path):
    out = tmp_path / 'kitti'
    said = _run('make_synthetic.py', 'kitti', '--out', out, '--train', 0, '--val', 1, code=2)
    assert 'train=0' in said
    assert not list(tmp_path.iterdir())


def test_infos_and_splits_from_the_command_line(tmp_path):
    out, infos = tmp_path / 'kitti', tmp_path / 'infos'
    _run('make_synthetic.py', 'kitti', '--out', out, *SMALL)
    said = _run('create_kitti_infos.py', '--root', out, '--out', infos)
    assert 'kitti_infos_train.pkl: 5 frames' in said and 'kitti_infos_val.pkl: 1 frames' in said
    _run('create_kitti_infos.py', '--root', out, '--out', infos, '--split-ids', 1, '000003',
         '--name', 'two', '--reduced')  # fmt: skip
    scans = sorted(p.name for p in (infos / 'training' / 'velodyne_reduced').iterdir())
    assert scans == ['000001.bin', '000003.bin']
    assert 'drawn' in _run('make_semi_split.py', '--root', out, '--sizes', 0.6)
    said = _run('make_semi_split.py', '--root', out, '--sizes', 6, code=2)
    assert 'cannot draw 6 labelled frames out of 5' in said

    (out / 'training' / 'label_2' / '000003.txt').unlink()
    said = _run('create_kitti_infos.py', '--root', out, '--out', infos, code=2)
    assert 'label_2/000003.txt: label is missing' in said and said.count('\n') == 1


def test_a_failed_write_leaves_the_old_folder(tmp_path, generate):
    out = tmp_path / 'data'
    assert generate(out, {'v': 1}, False, lambda folder: (folder / 'a').write_text('old'))

    def fail(folder):
        (folder / 'a').write_text('new')
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(out, {'v': 2}, True, fail)
    assert (out / 'a').read_text() == 'old'
    assert [p.name for p in tmp_path.iterdir()] == ['data']
    assert not generate(out, {'v': 1}, False, fail)


def test_foreign_folders_and_files_are_left_alone(tmp_path, generate):
    out = tmp_path / 'data'
    out.mkdir()
    assert generate(out, {'v': 1}, False, lambda folder: None)  # empty: may be used
    for blocked in (tmp_path / 'file', tmp_path / 'full'):
        if blocked.name == 'file':
            blocked.write_text('x')
        else:
            blocked.mkdir()
            (blocked / 'x').write_text('x')
        with pytest.raises(FileExistsError, match='--overwrite'):
            generate(blocked, {'v': 1}, False, lambda folder: None)


def test_what_killed_runs_left_is_removed(tmp_path, generate):
    dead = subprocess.Popen([sys.executable, '-c', ''])
    dead.wait()
    left = tmp_path / f'.data.part-{dead.pid}'
    left.mkdir()
    live = tmp_path / f'.data.part-{os.getppid()}'
    live.mkdir()
    generate(tmp_path / 'data', {}, False, lambda folder: None)
    assert not left.exists() and live.exists()
