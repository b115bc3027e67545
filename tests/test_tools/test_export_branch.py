"""tools/model_converters/export_branch.py: a branch becomes the plain model's own checkpoint."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.runner import load_checkpoint

from mmdistill.core.compat import safe_load
from mmdistill.testing import ToyDataset, ToyModel, ToySemiModel, assert_same_state, toy_runner

TOOL = Path(__file__).resolve().parents[2] / 'tools/model_converters/export_branch.py'


def call(*words):
    command = [sys.executable, '-W', 'ignore', str(TOOL), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=TOOL.parents[2])


def tool():
    spec = importlib.util.spec_from_file_location('export_branch', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A checkpoint as a training leaves it, and the model."""
    folder = tmp_path_factory.mktemp('run')
    branches = ('sup', 'unsup_teacher', 'unsup_student')
    runner = toy_runner(
        folder, ToySemiModel(), 4, ToyDataset(branches=branches),
        hooks=[dict(type='mmdistill.TeacherUpdateHook')],
    )  # fmt: skip
    runner.train()
    runner.save_checkpoint(str(folder), 'semi.pth')
    return folder / 'semi.pth', runner.model.eval()


@pytest.mark.parametrize('branch', ['student', 'teacher'])
def test_plain_model_predicts_the_same(trained, branch, tmp_path):
    path, model = trained
    out = tmp_path / 'new folder' / 'plain.pth'
    assert tool().export_branch(path, out, branch) == len(ToyModel().state_dict())
    plain = ToyModel().eval()
    load_checkpoint(plain, str(out), map_location='cpu', strict=True)
    vectors = torch.randn(7, 4)
    assert_same_state(plain(vectors), model.branch(branch)(vectors))
    saved, whole = safe_load(out), safe_load(path)
    assert set(saved) == {'meta', 'state_dict'} and 'optimizer' in whole
    assert saved['meta']['iter'] == whole['meta']['iter'] == 4
    assert saved['meta']['exported_branch'] == branch
    assert out.stat().st_size < path.stat().st_size


def test_command_line(trained, tmp_path):
    done = call(trained[0], tmp_path / 'out.pth', '--branch', 'teacher')
    assert done.returncode == 0, done.stderr
    assert 'tensors of the teacher' in done.stdout and (tmp_path / 'out.pth').exists()


def test_clear_errors(trained, tmp_path):
    path, _ = trained
    plain, junk, listed = tmp_path / 'plain.pth', tmp_path / 'junk.pth', tmp_path / 'list.pth'
    torch.save(dict(state_dict=ToyModel().state_dict()), plain)
    torch.save([1, 2], listed)
    junk.write_bytes(path.read_bytes()[:3000])
    out = tmp_path / 'out.pth'
    cases = [
        ((tmp_path / 'none.pth', out), 'there is no such'),
        ((plain, out), 'has no student'),
        ((junk, out), 'damaged or no checkpoint'),
        ((listed, out), 'holds a list'),
        ((path, path), 'would be overwritten'),
        ((path, tmp_path), 'is a folder'),
    ]
    for (source, target), words in cases:
        with pytest.raises((ValueError, OSError), match=words):
            tool().export_branch(source, target, 'student')
    assert not out.exists()
    done = call(plain, out)
    assert done.returncode == 2 and 'Traceback' not in done.stderr
    assert str(plain) in done.stderr and len(done.stderr.strip().splitlines()) == 1
