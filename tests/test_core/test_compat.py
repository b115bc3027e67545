"""Checkpoints load with weights only: mmengine's own do, a malicious one is refused."""

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader, Runner
from torch.utils.data import Dataset

from mmdistill.core import compat
from mmdistill.core.checkpoint_io import save_checkpoint
from mmdistill.core.compat import (
    PATCHES,
    UnreadableCheckpointError,
    UnsafeCheckpointError,
    allow_mmengine_globals,
    refused_global,
    safe_load,
    trust_checkpoints,
)

same_folder = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


class Ones(Dataset):
    """Eight equal samples."""

    metainfo = dict(classes=('a',), sigmas=np.array([0.1, 0.2]), palette=ConfigDict(a=(1, 2)))

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return dict(inputs=torch.ones(2))


class Line(BaseModel):
    """A linear model with the mean output as loss."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, inputs, mode='tensor'):
        """Returns the loss."""
        out = self.layer(torch.stack(list(inputs)) if isinstance(inputs, list) else inputs)
        return dict(loss=out.square().mean()) if mode == 'loss' else out


class Attack:
    """Pickles as a call."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def make_runner(folder, iters, **options):
    """Makes a Runner that saves a checkpoint in its last iteration."""
    MessageHub._instance_dict.clear()
    return Runner(
        model=Line(),
        work_dir=str(folder),
        train_dataloader=dict(
            dataset=Ones(),
            batch_size=2,
            sampler=dict(type='InfiniteSampler'),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(by_epoch=False, max_iters=iters),
        optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.1)),
        param_scheduler=dict(type='LinearLR', start_factor=0.5, by_epoch=False, begin=0, end=9),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=iters),
            logger=dict(type='LoggerHook', interval=1),
        ),
        default_scope='mmengine',
        experiment_name=f'compat_{Path(folder).name}_{time.time_ns()}',
        **options,
    )


@pytest.fixture
def loads(monkeypatch):
    """Records how torch.load is called."""
    seen, original = [], torch.load

    def record(*args, **kwargs):
        seen.append(kwargs.get('weights_only'))
        return original(*args, **kwargs)

    monkeypatch.setattr(torch, 'load', record)
    return seen


@pytest.fixture
def malicious(tmp_path):
    """A checkpoint whose loading makes a file."""
    path, touched = tmp_path / 'evil.pth', tmp_path / 'touched'
    torch.save(dict(state_dict={}, meta=Attack(os.system, f'touch {touched}')), path)
    return path, touched


def test_runner_resumes_its_own_checkpoint_weights_only(tmp_path, loads):
    allow_mmengine_globals()
    first = make_runner(tmp_path / 'a', 3)
    first.train()
    history = first.message_hub.get_scalar('train/loss').data
    second = make_runner(
        tmp_path / 'b', 5, resume=True, load_from=str(tmp_path / 'a' / 'iter_3.pth')
    )
    second.load_or_resume()
    assert second.iter == 3
    for resumed, saved in zip(
        second.message_hub.get_scalar('train/loss').data, history, strict=True
    ):
        np.testing.assert_array_equal(resumed, saved)
    for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)
    second.train()
    assert second.iter == 5
    assert len(second.message_hub.get_scalar('train/loss').data[0]) == 5
    assert loads and all(loads)


def test_runner_refuses_a_malicious_checkpoint(tmp_path, malicious):
    path, touched = malicious
    allow_mmengine_globals()
    runner = make_runner(tmp_path / 'a', 1, load_from=str(path))
    with pytest.raises(UnsafeCheckpointError, match=r'evil\.pth.*system.*--trust-checkpoint'):
        runner.train()
    assert not touched.exists()


def test_trust_is_explicit_and_ends_with_its_block(malicious):
    path, touched = malicious
    with pytest.raises(UnsafeCheckpointError), trust_checkpoints(False):
        safe_load(path)
    assert not touched.exists()
    with trust_checkpoints():
        assert safe_load(path)['meta'] == 0
    assert touched.exists()
    touched.unlink()
    with pytest.raises(UnsafeCheckpointError):
        CheckpointLoader.load_checkpoint(str(path))
    assert not touched.exists()
    assert safe_load(path, trust=True)['meta'] == 0
    assert touched.exists()


@pytest.mark.parametrize(
    'attack',
    [
        Attack(eval, '1'),
        Attack(exec, '1'),
        Attack(getattr, HistoryBuffer, 'register_statistics'),
        Attack(getattr, HistoryBuffer, '__init__'),
        Attack(getattr, np.ndarray, 'tofile'),
        Attack(getattr, Attack(getattr, HistoryBuffer, 'mean'), '__globals__'),
        Attack(setattr, HistoryBuffer, 'mean', 1),
        Attack(open, 'touched', 'w'),
        Attack(subprocess.check_output, ['true']),
        Attack(__import__, 'os'),
        Attack(np.fromfile, 'touched'),
        Attack(np.load, 'touched', None, True),
        Attack(pickle.loads, b'N.'),
        Attack(torch.load, 'touched'),
    ],
    ids=lambda attack: f'{attack.call[0].__name__}{len(attack.call[1])}',
)
def test_every_attack_is_refused_by_name(tmp_path, attack):
    torch.save([attack], tmp_path / 'evil.pth')
    with pytest.raises(UnsafeCheckpointError, match=r'evil\.pth'):
        safe_load(tmp_path / 'evil.pth')


def test_bare_pickles_are_refused_in_every_protocol(tmp_path):
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        with open(tmp_path / 'evil.pth', 'wb') as stream:
            pickle.dump(Attack(os.system, f'touch {tmp_path / "touched"}'), stream, protocol)
        with pytest.raises((UnsafeCheckpointError, UnreadableCheckpointError), match='evil'):
            safe_load(tmp_path / 'evil.pth')
    assert not (tmp_path / 'touched').exists()


@same_folder
@given(
    st.sampled_from(['f4', 'f8', 'i8', 'i4', 'u1', '?', 'c8', 'U3', 'S2', 'M8[s]']),
    st.lists(st.integers(0, 3), max_size=3),
)
def test_numpy_survives(tmp_path, kind, shape):
    array = np.zeros(shape, dtype=kind)
    scalar = np.zeros((), dtype=kind)[()]
    torch.save(dict(array=array, scalar=scalar, kind=np.dtype(kind)), tmp_path / 'a.pth')
    back = safe_load(tmp_path / 'a.pth')
    np.testing.assert_array_equal(back['array'], array)
    assert back['array'].dtype == back['kind'] == array.dtype
    assert back['scalar'] == scalar and type(back['scalar']) is type(scalar)


def test_message_hub_and_configs_survive(tmp_path):
    hub = MessageHub('compat-test')
    for value in (3.0, 1.0, 2.0):
        hub.update_scalar('train/loss', value)
    hub.update_info('best', np.float32(0.5))
    torch.save(dict(hub=hub.state_dict(), cfg=ConfigDict(a=[dict(b=1)])), tmp_path / 'a.pth')
    back = safe_load(tmp_path / 'a.pth')
    buffer = back['hub']['log_scalars']['train/loss']
    assert [buffer.statistics(name) for name in ('min', 'max', 'mean', 'current')] == [1, 3, 2, 2]
    assert back['hub']['runtime_info']['best'] == np.float32(0.5)
    assert back['cfg'].a[0].b == 1


@same_folder
@given(st.floats(0, 1, exclude_max=True), st.booleans())
def test_a_truncated_file_is_named(tmp_path, part, zipped):
    whole = tmp_path / 'whole.pth'
    state = dict(state_dict=dict(w=torch.ones(3)), hub=HistoryBuffer([1.0], [1]))
    torch.save(state, whole, _use_new_zipfile_serialization=zipped)
    content = whole.read_bytes()
    (tmp_path / 'cut.pth').write_bytes(content[: int(part * len(content))])
    with pytest.raises((UnreadableCheckpointError, UnsafeCheckpointError), match=r'cut\.pth'):
        safe_load(tmp_path / 'cut.pth')


@pytest.mark.parametrize('zipped', [True, False])
def test_a_cut_of_any_size_is_named(tmp_path, zipped):
    """Of some sizes below 64 KiB torch seeks to a place before the file."""
    whole = tmp_path / 'whole.pth'
    torch.save(dict(w=torch.ones(2000)), whole, _use_new_zipfile_serialization=zipped)
    content = whole.read_bytes()
    for size in (1, 2, 3, *range(4, len(content), 101)):
        (tmp_path / 'cut.pth').write_bytes(content[:size])
        with pytest.raises((UnreadableCheckpointError, UnsafeCheckpointError), match=r'cut\.pth'):
            safe_load(tmp_path / 'cut.pth')


def test_the_checksum_is_looked_at(tmp_path):
    path = tmp_path / 'a.pth'
    weights = torch.arange(64, dtype=torch.float64)
    save_checkpoint(dict(w=weights), path, run=1, iter=1, epoch=0, resumable=True)
    assert torch.equal(safe_load(path)['w'], weights)
    content = bytearray(path.read_bytes())
    content[content.index(weights.numpy().tobytes()) + 8] ^= 1
    path.write_bytes(content)
    with pytest.raises(UnreadableCheckpointError, match=r'a\.pth: .*sha256 is wrong'):
        safe_load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'none\.pth'):
        safe_load(tmp_path / 'none.pth')


def test_urls_are_loaded_weights_only(tmp_path, malicious, monkeypatch):
    path, touched = malicious
    allow_mmengine_globals()
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'hub'))
    with pytest.raises(UnsafeCheckpointError, match=r'file://.*evil\.pth'):
        compat.load_from_url(path.as_uri(), progress=False)
    assert not touched.exists()
    torch.save(dict(w=torch.ones(2)), tmp_path / 'good.pth')
    loaded = compat.load_from_url((tmp_path / 'good.pth').as_uri(), progress=False)
    assert torch.equal(loaded['w'], torch.ones(2))


def test_errors_about_other_things_pass_through(tmp_path):
    torch.save(torch.ones(1), tmp_path / 'a.pth')
    with pytest.raises(RuntimeError, match='nonsense'):
        safe_load(tmp_path / 'a.pth', map_location='nonsense')


def test_allowing_twice_changes_nothing():
    allow_mmengine_globals()
    before = list(map(str, torch.serialization.get_safe_globals()))
    schemes = dict(CheckpointLoader._schemes)
    allow_mmengine_globals()
    assert sorted(before) == sorted(map(str, torch.serialization.get_safe_globals()))
    assert schemes == CheckpointLoader._schemes


def test_the_refused_thing_is_read_from_the_message():
    assert refused_global('Unsupported global: GLOBAL posix.system was not') == 'posix.system'
    assert refused_global('unsupported GLOBAL os.x whose module os is blocked.') == 'os.x'
    assert refused_global('Trying to call reduce for unrecognized function abs') == 'abs'
    assert refused_global('invalid load key') is None


def test_every_patch_says_what_why_and_until_when():
    assert all(patch.what and patch.defect and patch.until for patch in PATCHES)


def test_importing_changes_nothing_and_the_defects_are_still_there(tmp_path):
    code = f"""
import pickle, torch
from mmengine.runner import CheckpointLoader, checkpoint
from mmengine.logging import HistoryBuffer
before = (
    dict(CheckpointLoader._schemes), checkpoint.load_url, torch.serialization.get_safe_globals())
import mmdistill.core.compat as compat
assert before == (
    CheckpointLoader._schemes, checkpoint.load_url, torch.serialization.get_safe_globals())
torch.save(HistoryBuffer([1.0], [1]), {str(tmp_path / 'a.pth')!r})
try:
    CheckpointLoader.load_checkpoint({str(tmp_path / 'a.pth')!r})
except pickle.UnpicklingError:
    compat.allow_mmengine_globals()
    CheckpointLoader.load_checkpoint({str(tmp_path / 'a.pth')!r})
else:
    raise SystemExit('mmengine loads its own checkpoints now: remove the patch')
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
