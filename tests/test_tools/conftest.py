"""Fixtures of the tools' tests: the tools importable, a tiny data set, a training script double."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tools(monkeypatch):
    """Makes ``benchmark``, ``demo`` and the scripts of ``misc`` importable."""
    for folder in ('tools/misc', 'tools'):
        monkeypatch.syspath_prepend(str(ROOT / folder))
    return ROOT / 'tools'


@pytest.fixture(scope='session')
def tiny_kitti(tmp_path_factory):
    """A synthetic KITTI of 12 + 2 coarse frames; never change it."""
    out = tmp_path_factory.mktemp('data') / 'kitti'
    tool = ROOT / 'tools' / 'dataset_converters' / 'make_synthetic.py'
    coarse = ['--beams=24', '--azimuth-step=0.5']
    command = [sys.executable, tool, 'kitti', f'--out={out}', '--train=12', '--val=2', *coarse]
    subprocess.run(command, check=True, capture_output=True)
    return out


@pytest.fixture
def plain_checkpoint(tmp_path):
    """A checkpoint of the untrained detector of the synthetic configs."""

    def make():
        import torch
        from mmengine.config import Config
        from mmengine.registry import init_default_scope

        cfg = Config.fromfile(ROOT / 'configs/hssda/burn-in_pointpillars_synthetic-kitti.py')
        init_default_scope('mmdet3d')
        from mmdet3d.registry import MODELS

        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
        # without the prior against objects everything is found everywhere
        torch.nn.init.zeros_(model.bbox_head.conv_cls.bias)
        path = tmp_path / 'plain.pth'
        torch.save(dict(state_dict=model.state_dict(), meta={}), path)
        return path

    return make


@pytest.fixture
def fake_train():
    """A script called like ``tools/train.py`` that only writes logs and results."""
    return Path(__file__).with_name('fake_train.py')


@pytest.fixture
def gain_of(tools, tmp_path, fake_train, monkeypatch, capsys):
    """Makes a quick run of a method's gain with the fake training.

    The run returns exit code, output and JSON; its ``calls()`` are those of the last run.
    """
    from benchmark import gain

    monkeypatch.setenv('FAKE_TRAIN', str(tmp_path))
    out = tmp_path / 'gain.json'

    def make(method):
        def run(*args):
            (tmp_path / 'calls').write_text('')
            fixed = ['--quick', f'--out={out}', f'--work-dir={tmp_path}/work']
            code = gain.main([method, *fixed, f'--train-script={fake_train}', *args])
            return code, capsys.readouterr().out, json.loads(out.read_text())

        run.calls = lambda: (tmp_path / 'calls').read_text().splitlines()
        return run

    return make


@pytest.fixture
def config_of_job(tools):
    """Reads the config of a training with its overrides, as the training script would."""

    def read(job):
        from benchmark.training import config_of, option_key
        from mmengine.config import Config

        from mmdistill.core.launch import checked_options

        known = config_of(job.config)
        options = {option_key(known, key): value for key, value in job.options.items()}
        cfg = Config(known.to_dict())
        cfg.merge_from_dict(checked_options(cfg, options))
        return cfg

    return read
