"""The demo: a table, pictures, curves; nothing twice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = {'table.md', 'result.json', 'curves.png'}


@pytest.fixture
def demo(tools, tmp_path, monkeypatch, capsys):
    """Runs the demo in miniature; returns exit code and output."""
    import demo
    from benchmark.methods import hssda

    monkeypatch.setattr(hssda, 'QUICK', hssda.Sizes(train=6, val=2, shorter=150))
    monkeypatch.setattr(demo, 'PICTURES', 1)
    monkeypatch.setenv('FAKE_TRAIN', str(tmp_path))

    def run(*args):
        fixed = ['--quick', f'--out={tmp_path}/demo', f'--data={tmp_path}/kitti']
        code = demo.main([*fixed, *args])
        return code, capsys.readouterr()

    run.out = tmp_path / 'demo'
    run.module = demo
    return run


@pytest.fixture
def fake_pictures(demo, monkeypatch):
    """Pictures without a model."""
    code = 'import pathlib, sys; pathlib.Path(sys.argv[1], "pseudo_x.png").write_text("")'

    def command(self):
        return [sys.executable, '-c', code, str(self.out)]

    monkeypatch.setattr(demo.module.Pictures, 'command', command)


def test_all_files_and_the_table(demo, fake_pictures, fake_train):
    code, said = demo('--seed', '3', f'--train-script={fake_train}')
    assert code == 0, said
    assert {path.name for path in demo.out.iterdir()} >= FILES
    assert 'HSSDA 43.0 vs labels alone 33.0 (+10.0)' in said.out
    table = (demo.out / 'table.md').read_text()
    assert '| supervised | 33.0 |' in table and '| HSSDA | 43.0 |' in table
    assert '4 labelled and 2 unlabelled scenes, seed 3' in table
    result = json.loads((demo.out / 'result.json').read_text())
    assert [row['label'] for row in result['rows']] == ['burn-in', 'supervised', 'HSSDA']
    assert result['quick'] and result['seed'] == 3
    assert (demo.out / 'curves.png').read_bytes()[:4] == b'\x89PNG'


def test_a_second_call_trains_nothing(demo, fake_pictures, fake_train, tmp_path):
    demo(f'--train-script={fake_train}')
    calls = (tmp_path / 'calls').read_text()
    code, said = demo(f'--train-script={fake_train}')
    assert code == 0 and (tmp_path / 'calls').read_text() == calls
    assert said.out.count('(from an earlier call)') == 4


def test_a_failure_is_named(demo, fake_pictures, fake_train, tmp_path):
    (tmp_path / 'fail').write_text('supervised')
    code, said = demo(f'--train-script={fake_train}')
    assert code == 1
    assert 'weather' in said.out and 'demo: labels alone failed: exit code 3' in said.err
    assert not (demo.out / 'table.md').exists()


def test_foreign_data_are_not_replaced(demo, fake_pictures, fake_train, tmp_path):
    (tmp_path / 'kitti').mkdir()
    (tmp_path / 'kitti' / 'mine.txt').write_text('precious')
    code, said = demo(f'--train-script={fake_train}')
    assert code == 1 and '--overwrite' in said.out
    assert (tmp_path / 'kitti' / 'mine.txt').read_text() == 'precious'


def test_the_demo_for_real_in_miniature(demo, monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', str(os.cpu_count()))
    code, said = demo()
    assert code == 0, said
    pictures = sorted(path.name for path in demo.out.glob('pseudo_*.png'))
    assert len(pictures) == 1
    metrics = json.loads((demo.out / 'result.json').read_text())['rows'][2]['metrics']
    assert {'mAP40_3D_moderate', 'teacher/mAP40_3D_moderate'} <= set(metrics)
    assert {path.name for path in demo.out.iterdir()} >= FILES


def test_help_needs_no_model():
    script = ROOT / 'tools' / 'demo.py'
    done = subprocess.run([sys.executable, script, '--help'], capture_output=True, text=True)
    assert done.returncode == 0 and '--seed' in done.stdout
