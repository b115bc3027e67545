"""Which checkpoint of a folder a training goes on from."""

import os
import socket
import subprocess
import time

import pytest
import torch

from mmdistill.core.checkpoint_folder import (
    candidates,
    clean_temporaries,
    newest_valid,
    next_run,
    write_pointer,
)
from mmdistill.core.checkpoint_io import TEMP, save_checkpoint
from mmdistill.core.errors import UserError


def save(path, run, iter, resumable=True):
    """A small checkpoint."""
    save_checkpoint(dict(iter=iter), path, run=run, iter=iter, epoch=0, resumable=resumable)
    return path


def names(paths):
    """File names."""
    return [path.name for path in paths]


def test_newest_is_by_run_then_iteration(tmp_path):
    """A leftover of an earlier, longer run does not win, whatever the clocks say."""
    for run, iter in ((1, 900), (2, 100), (2, 200)):
        path = save(tmp_path / f'iter_{iter}.pth', run, iter)
        os.utime(path, (10**9 + 1000 * iter,) * 2)
    assert names(candidates(tmp_path)) == ['iter_200.pth', 'iter_100.pth', 'iter_900.pth']
    assert newest_valid(tmp_path).name == 'iter_200.pth'
    assert next_run(tmp_path) == 3


def test_iterations_are_compared_as_numbers(tmp_path):
    for iter in (8, 9, 10):
        save(tmp_path / f'iter_{iter}.pth', 1, iter)
        torch.save({}, tmp_path / f'epoch_{iter}.pth')
    assert names(candidates(tmp_path))[:4] == [
        'iter_10.pth', 'iter_9.pth', 'iter_8.pth', 'epoch_10.pth',
    ]  # fmt: skip


def test_only_checkpoints_to_resume_from_count(tmp_path):
    save(tmp_path / 'best_accuracy_iter_9.pth', 1, 9, resumable=False)
    save(tmp_path / 'iter_9.pth', 1, 9, resumable=False)
    save(tmp_path / 'other.pth', 1, 9)
    (tmp_path / 'iter_7.pth').mkdir()
    assert candidates(tmp_path) == [] and newest_valid(tmp_path) is None
    assert names(candidates(tmp_path, 'other.pth'.replace('other', '{}'))) == []
    save(tmp_path / 'step-3.pth', 1, 3)
    assert names(candidates(tmp_path, 'step-{}.pth')) == ['step-3.pth']


@pytest.mark.parametrize('damage', ['truncate', 'flip', 'empty'])
def test_damaged_newest_is_set_aside_and_said(tmp_path, damage):
    save(tmp_path / 'iter_4.pth', 1, 4)
    bad = save(tmp_path / 'iter_8.pth', 1, 8)
    data = bytearray(bad.read_bytes())
    data[100] ^= 1
    cut = dict(truncate=data[: len(data) // 2], flip=data, empty=b'')[damage]
    bad.write_bytes(cut)
    log = []
    assert newest_valid(tmp_path, log=log.append).name == 'iter_4.pth'
    assert len(log) == 1 and 'iter_8.pth' in log[0] and 'iter_4.pth is used' in log[0]
    reason = dict(truncate='truncated', flip='sha256', empty='empty')[damage]
    assert reason in log[0]
    assert (tmp_path / 'iter_8.pth.damaged').read_bytes() == bytes(cut)
    assert not bad.exists() and newest_valid(tmp_path, log=log.append) and len(log) == 1
    save(bad, 2, 8).write_bytes(cut)  # damaged once more: nothing is overwritten
    newest_valid(tmp_path, log=log.append)
    assert (tmp_path / 'iter_8.pth.damaged1').exists()


def test_all_damaged_is_an_error_that_names_them(tmp_path):
    for iter in (4, 8):
        save(tmp_path / f'iter_{iter}.pth', 1, iter).write_bytes(b'')
    with pytest.raises(UserError, match=r'iter_4.pth: the file is empty.*--resume PATH') as info:
        newest_valid(tmp_path)
    assert 'iter_8.pth' in str(info.value)
    assert (tmp_path / 'iter_8.pth').exists()


def test_mmengines_own_checkpoints_are_found(tmp_path):
    torch.save(dict(a=1), tmp_path / 'epoch_3.pth')
    assert newest_valid(tmp_path).name == 'epoch_3.pth' and next_run(tmp_path) == 1


def test_missing_and_empty_folders(tmp_path):
    assert newest_valid(tmp_path / 'none') is None and newest_valid(tmp_path) is None
    assert next_run(tmp_path) == 1 and clean_temporaries(tmp_path / 'none') == []


def test_pointer_is_what_openmmlab_reads(tmp_path):
    from mmengine.runner import find_latest_checkpoint

    write_pointer(tmp_path, tmp_path / 'iter_3.pth')
    assert find_latest_checkpoint(str(tmp_path)) == str(tmp_path / 'iter_3.pth')


def test_only_our_dead_temporaries_are_removed(tmp_path):
    dead = subprocess.Popen(['true'])
    dead.wait()
    host = socket.gethostname()
    alive = os.getppid()
    kept = ['other.tmp', f'{TEMP}-{host}-{alive}-iter_1.pth', f'{TEMP}-elsewhere-5-iter_1.pth']
    gone = [f'{TEMP}-{host}-{dead.pid}-iter_2.pth', f'{TEMP}-elsewhere-5-old.pth']
    for name in kept + gone:
        (tmp_path / name).write_bytes(b'x')
    os.utime(tmp_path / gone[1], (time.time() - 90000,) * 2)
    assert sorted(clean_temporaries(tmp_path)) == sorted(gone)
    assert sorted(os.listdir(tmp_path)) == sorted(kept)
