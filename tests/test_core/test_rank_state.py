"""Two ranks: the same step on both, each with its own generators and buffers."""

import hashlib
import json
import os

import pytest

from mmdistill.testing.compare import assert_same_state
from mmdistill.testing.noisy import noisy_config
from mmdistill.testing.ranks import run_gloo
from mmdistill.testing.resume_check import run, training_state

ITERS = 10


def config(work_dir, fault=None, **changes):
    """The noisy training on ranks; BatchNorm's statistics differ between them."""
    cfg = noisy_config(work_dir, ITERS, **changes)
    cfg['custom_hooks'][1]['fault'] = fault
    wrapper = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
    cfg.update(launcher='pytorch', model_wrapper_cfg=wrapper)
    cfg['default_hooks']['checkpoint']['interval'] = 4
    cfg['randomness'] = dict(seed=3, diff_rank_seed=True)
    return cfg


def train(rank, *args, **options):
    """Status, and a digest of this rank's buffers at the end."""
    from mmengine.hooks import Hook

    digest = []

    class Last(Hook):
        def after_train(self, runner):
            buffers = [buffer.numpy().tobytes() for buffer in runner.model.buffers()]
            digest.append(hashlib.sha256(b''.join(buffers)).hexdigest())

    return run(config(*args, **options), Last()), digest


def train_accumulating(rank, *args):
    """With gradients accumulated over four iterations."""
    return train(rank, *args, optim_wrapper__accumulative_counts=4)


def resume(rank, *args):
    """Goes on."""
    return train(rank, *args, None, resume=True)


def resume_accumulating(rank, *args):
    """Goes on."""
    return train(rank, *args, None, resume=True, optim_wrapper__accumulative_counts=4)


@pytest.mark.parametrize(
    ('begin', 'go_on'), [(train, resume), (train_accumulating, resume_accumulating)]
)
def test_signal_to_one_rank_stops_both_at_the_same_step(tmp_path, begin, go_on):
    name = f'iter_{ITERS}.pth'
    whole = run_gloo(begin, 2, tmp_path / 'whole', None)
    assert [status for status, _ in whole] == [0, 0] and whole[0][1] != whole[1][1]
    broken = run_gloo(begin, 2, tmp_path / 'broken', 'usr1:iter=5@rank=1')
    assert broken == [(0, []), (0, [])]
    assert json.loads((tmp_path / 'broken' / 'preempted').read_text())['iter'] == 5
    saved = training_state(tmp_path / 'broken' / 'iter_5.pth')['mmdistill']['ranks']
    assert len(saved) == 2 and saved[1]['buffers'] and not saved[0]['buffers']
    assert not saved[0]['rng']['torch'].equal(saved[1]['rng']['torch'])
    assert bool(saved[1]['grads']) == (begin is train_accumulating)
    assert run_gloo(go_on, 2, tmp_path / 'broken') == whole
    assert_same_state(
        training_state(tmp_path / 'broken' / name), training_state(tmp_path / 'whole' / name)
    )


def test_stop_within_a_validation_of_unequal_lengths(tmp_path):
    """Rank 0 validates more batches; both stop at one that both have."""
    results = run_gloo(validate_unequally, 2, tmp_path, 'term:iter=6@val_iter=1@rank=0')
    assert results == [0, 0]
    assert json.loads((tmp_path / 'preempted').read_text())['iter'] == 6


def validate_unequally(rank, *args):
    """One sample more on rank 0, one sample per batch."""
    cfg = config(*args)
    sampler = dict(type='DefaultSampler', shuffle=False, round_up=False)
    cfg['val_dataloader'].update(sampler=sampler, batch_size=1)
    return run(cfg)


def test_one_rank_resumes_what_two_saved(tmp_path, capsys):
    run_gloo(train, 2, tmp_path, 'usr1:iter=5@rank=1')
    cfg = noisy_config(tmp_path, ITERS, resume=True)
    assert run(cfg) == 0
    assert 'world_size of the training data is 1 and was 2' in capsys.readouterr().out
    assert os.path.exists(tmp_path / f'iter_{ITERS}.pth')
