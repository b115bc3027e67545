"""tools/train.py as a user calls it."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.runner import CheckpointLoader, checkpoint

from mmdistill.core.errors import run_tool
from mmdistill.testing.compare import assert_same_state
from mmdistill.testing.noisy import noisy_config
from mmdistill.testing.resume_check import training_state

ROOT = Path(__file__).resolve().parents[2]


def call(monkeypatch, name, *args):
    """Runs a tool in this process; its exit status."""
    spec = importlib.util.spec_from_file_location(f'tool_{name}', ROOT / f'tools/{name}.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(sys, 'argv', [name, *map(str, args)])
    monkeypatch.setenv('LOCAL_RANK', '0')
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    # a new process has none; two runs of one second in one process would share it by name
    MessageHub._instance_dict.clear()
    try:
        run_tool(tool.main)
    except SystemExit as end:
        return end.code
    return 0


@pytest.fixture
def config(tmp_path):
    """A config file; its work dir is set on the command line."""
    cfg = noisy_config('unset', 6)
    del cfg['work_dir']
    Config(cfg).dump(tmp_path / 'noisy.py')
    return tmp_path / 'noisy.py'


def test_preempted_and_resumed_by_the_same_command(tmp_path, config, monkeypatch):
    command = ('train', config, '--resume', '--work-dir')
    assert call(monkeypatch, *command, tmp_path / 'whole') == 0
    monkeypatch.setenv('MMDISTILL_FAULT', 'usr1:iter=4')
    assert call(monkeypatch, *command, tmp_path / 'cut') == 0
    assert json.loads((tmp_path / 'cut' / 'preempted').read_text())['iter'] == 4
    monkeypatch.delenv('MMDISTILL_FAULT')
    assert call(monkeypatch, *command, tmp_path / 'cut') == 0
    states = [training_state(tmp_path / name / 'iter_6.pth') for name in ('whole', 'cut')]
    assert_same_state(*states)


def test_options_and_default_work_dir(tmp_path, config, monkeypatch):
    monkeypatch.chdir(tmp_path)
    option = 'default_hooks.checkpoint.interval=4'
    assert call(monkeypatch, 'train', config, '--cfg-options', option, '+model.width=5') == 0
    folder = tmp_path / 'work_dirs' / 'noisy'
    assert sorted(path.name for path in folder.glob('iter*')) == ['iter_4.pth', 'iter_6.pth']
    assert Config.fromfile(folder / 'noisy.py').model.width == 5


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['--cfg-options', 'modle.width=5'], "has no key 'modle' (did you mean 'model'"),
        (['--cfg-options', '+model.widht=5'], "unknown config key 'widht' for NoisyModel"),
        (['--cfg-options', 'model.type=mmdistill.Nosy'], 'mmdistill.Nosy is not in the'),
        (['--resume', 'none.pth'], '--resume none.pth: there is no such file'),
        (['--auto-scale-lr'], '--auto-scale-lr needs auto_scale_lr'),
        (['--cfg-options', 'load_from=none.pth'], 'none.pth'),
        (['--cfg-options', '+randomness.sed=0'], "'sed' for randomness (did you mean 'seed'?)"),
        (
            ['--cfg-options', '+train_dataloader.persistant_workers=True'],
            "for the data loader (did you mean 'persistent_workers'",
        ),
        (
            ['--cfg-options', '+optim_wrapper.clip_grad.maxnorm=1'],
            "'maxnorm' for clip_grad (did you mean 'max_norm'?)",
        ),
    ],
)
def test_mistakes_are_one_line_and_status_2(tmp_path, config, monkeypatch, capsys, args, message):
    monkeypatch.delenv('RANK', raising=False)
    assert call(monkeypatch, 'train', config, '--work-dir', tmp_path / 'w', *args) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith('error: ') and message in said


def test_checkpoints_of_mmengines_own_hook_are_resumed(tmp_path, config, monkeypatch):
    cfg = Config.fromfile(config)
    cfg.custom_hooks = []
    cfg.default_hooks.checkpoint.update(type='CheckpointHook', interval=4)
    cfg.dump(config)
    command = ('train', config, '--resume', '--work-dir', tmp_path / 'w')
    assert call(monkeypatch, *command, '--cfg-options', 'train_cfg.max_iters=4') == 0
    torch.serialization.clear_safe_globals()  # as in a new process
    CheckpointLoader.register_scheme('', loader=checkpoint.load_from_local, force=True)
    assert call(monkeypatch, *command) == 0
    folder = tmp_path / 'w'
    assert sorted(path.name for path in folder.glob('iter*')) == ['iter_4.pth', 'iter_6.pth']
    assert torch.load(folder / 'iter_6.pth')['meta']['iter'] == 6


def test_a_folder_in_the_place_of_a_checkpoint_is_one_line(tmp_path, config, monkeypatch, capsys):
    (tmp_path / 'w' / 'iter_3.pth' / 'x').mkdir(parents=True)
    assert call(monkeypatch, 'train', config, '--work-dir', tmp_path / 'w') == 2
    assert 'iter_3.pth: Is a directory' in capsys.readouterr().err


def test_damaged_checkpoint_is_one_line(tmp_path, config, monkeypatch, capsys):
    work_dir = tmp_path / 'w'
    assert call(monkeypatch, 'train', config, '--work-dir', work_dir) == 0
    path = work_dir / 'iter_6.pth'
    path.write_bytes(path.read_bytes()[:9000])
    assert call(monkeypatch, 'train', config, '--work-dir', work_dir, '--resume', path) == 2
    assert 'iter_6.pth: cannot resume from it, truncated' in capsys.readouterr().err
    assert call(monkeypatch, 'train', config, '--work-dir', work_dir, '--resume') == 0
    assert (work_dir / 'iter_6.pth.damaged').exists()


class Evil:
    """A pickle that touches a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_malicious_checkpoint_is_refused_unless_trusted(tmp_path, config, monkeypatch, capsys):
    work_dir, trap = tmp_path / 'w', tmp_path / 'trap'
    assert call(monkeypatch, 'train', config, '--work-dir', work_dir) == 0
    content = torch.load(work_dir / 'iter_6.pth', weights_only=False)
    torch.save(dict(content, evil=Evil(trap)), tmp_path / 'evil.pth')
    command = ('train', config, '--work-dir', work_dir, '--resume', tmp_path / 'evil.pth')
    assert call(monkeypatch, *command) == 2
    assert '--trust-checkpoint' in capsys.readouterr().err and not trap.exists()
    assert call(monkeypatch, *command, '--trust-checkpoint') == 0 and trap.exists()


def test_two_cpu_ranks_through_dist_train(tmp_path, config):
    """The real thing: torchrun, gloo, a signal to one rank, the same command again."""
    command = [
        'bash', ROOT / 'tools/dist_train.sh', config, '2', '--resume', '--work-dir', tmp_path / 'w',
    ]  # fmt: skip
    port = str(20000 + os.getpid() % 20000)
    env = dict(os.environ, PYTHON=sys.executable, PORT=port, OMP_NUM_THREADS='1')
    for fault in ('usr1:iter=3@rank=1', ''):
        done = subprocess.run(
            list(map(str, command)), env=dict(env, MMDISTILL_FAULT=fault),
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        assert (tmp_path / 'w' / 'preempted').exists() == bool(fault)
    state = training_state(tmp_path / 'w' / 'iter_6.pth')
    assert state['meta']['iter'] == 6 and len(state['mmdistill']['ranks']) == 2
