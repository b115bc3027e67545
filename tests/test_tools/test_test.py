"""tools/test.py: branches, metrics, and what it refuses."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from mmdistill.core.errors import run_tool
from mmdistill.testing.noisy import noisy_config
from mmdistill.testing.resume_check import run

ROOT = Path(__file__).resolve().parents[2]


def call(monkeypatch, *args):
    """Runs the tool in this process; its exit status."""
    spec = importlib.util.spec_from_file_location('tool_test', ROOT / 'tools/test.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(sys, 'argv', ['test.py', *map(str, args)])
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.delenv('RANK', raising=False)
    try:
        run_tool(tool.main)
    except SystemExit as end:
        return end.code
    return 0


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A trained plain model with its config, and a semi-supervised config around it."""
    folder = tmp_path_factory.mktemp('trained')
    cfg = noisy_config(folder, 4)
    assert run(cfg) == 0
    data = dict(cfg['val_dataloader'], dataset=dict(type='mmdistill.NoisyDataset', length=6))
    cfg.update(test_cfg=dict(), test_dataloader=data, test_evaluator=cfg['val_evaluator'])
    Config(cfg).dump(folder / 'plain.py')
    semi = dict(type='mmdistill.SemiModel', model=cfg['model'])
    Config(dict(cfg, model=semi)).dump(folder / 'semi.py')
    Config(dict(cfg, test_dataloader=None, test_cfg=None, test_evaluator=None)).dump(
        folder / 'untestable.py'
    )
    return folder


def test_plain_model(trained, tmp_path, monkeypatch):
    args = (trained / 'plain.py', trained / 'iter_4.pth', '--work-dir', tmp_path)
    assert call(monkeypatch, *args) == 0
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    assert list(metrics) == ['model'] and 0 <= metrics['model']['accuracy'] <= 1.01


@pytest.mark.parametrize(
    ('branch', 'tested'), [('teacher', ['teacher']), ('both', ['student', 'teacher'])]
)
def test_branches_of_a_semi_supervised_model(trained, tmp_path, monkeypatch, branch, tested):
    """A plain checkpoint goes into both branches, so both reach what it reaches."""
    args = (trained / 'semi.py', trained / 'iter_4.pth', '--work-dir', tmp_path)
    assert call(monkeypatch, *args, '--branch', branch) == 0
    assert list(json.loads((tmp_path / 'metrics.json').read_text())) == tested


@pytest.mark.parametrize(
    ('config', 'checkpoint', 'flags', 'message'),
    [
        ('plain.py', 'iter_4.pth', ['--branch', 'teacher'], 'has no student and teacher'),
        ('plain.py', 'none.pth', [], 'there is no such checkpoint'),
        ('plain.py', 'damaged.pth', [], 'damaged.pth: its sha256 is wrong'),
        ('plain.py', 'iter_4.pth', ['--show-dir', 'x'], '--show-dir needs'),
        ('untestable.py', 'iter_4.pth', [], 'there is no test_dataloader'),
    ],
)
def test_refusals(trained, tmp_path, monkeypatch, capsys, config, checkpoint, flags, message):
    data = bytearray((trained / 'iter_4.pth').read_bytes())
    data[5000] ^= 1
    (trained / 'damaged.pth').write_bytes(data)
    args = (trained / config, trained / checkpoint, '--work-dir', tmp_path, *flags)
    assert call(monkeypatch, *args) == 2
    assert message in capsys.readouterr().err
