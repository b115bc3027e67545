"""Preemption is a normal end: everything saved, status 0, the same command goes on."""

import json
import signal

import pytest

from mmdistill.core.errors import UserError
from mmdistill.core.hooks.preempt import PreemptHook
from mmdistill.testing.compare import assert_same_state
from mmdistill.testing.noisy import noisy_config
from mmdistill.testing.resume_check import run, start_child, training_state

ITERS = 12


@pytest.fixture(autouse=True)
def handlers():
    """A preempted training ends its process; here the process goes on."""
    numbers = (signal.SIGTERM, signal.SIGUSR1)
    old = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, old, strict=True):
        signal.signal(number, handler)


def config(work_dir, fault=None, **changes):
    """The noisy training with a fault."""
    cfg = noisy_config(work_dir, ITERS, **changes)
    cfg['custom_hooks'][1]['fault'] = fault
    return cfg


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Final state of the unbroken training."""
    folder = tmp_path_factory.mktemp('whole')
    run(config(folder, default_hooks__checkpoint__interval=100))
    return training_state(folder / f'iter_{ITERS}.pth')


@pytest.mark.parametrize(
    ('fault', 'at'),
    [('term:iter=5', 5), ('usr1:iter=1', 1), ('usr1:iter=6@val_iter=2', 6), ('term:iter=6', 6)],
)
def test_saved_at_once_and_resumed_exactly(tmp_path, whole, fault, at):
    options = dict(default_hooks__checkpoint__interval=100)
    assert run(config(tmp_path, fault, **options)) == 0
    assert sorted(path.name for path in tmp_path.glob('iter*.pth')) == [f'iter_{at}.pth']
    marker = json.loads((tmp_path / 'preempted').read_text())
    assert marker['iter'] == at and marker['checkpoint'] == str(tmp_path / f'iter_{at}.pth')
    assert marker['signal'] == ('SIGTERM' if fault.startswith('term') else 'SIGUSR1')
    assert run(config(tmp_path, resume=True, **options)) == 0
    assert not (tmp_path / 'preempted').exists()
    assert_same_state(training_state(tmp_path / f'iter_{ITERS}.pth'), whole)


def test_preempted_again_and_again(tmp_path, whole):
    options = dict(default_hooks__checkpoint__interval=100, train_dataloader__num_workers=1)
    for at in (2, 3, 7, 11):
        assert run(config(tmp_path, f'usr1:iter={at}', resume='auto', **options)) == 0
        assert json.loads((tmp_path / 'preempted').read_text())['iter'] == at
    assert run(config(tmp_path, resume='auto', **options)) == 0
    assert_same_state(training_state(tmp_path / f'iter_{ITERS}.pth'), whole)


def test_vote_interval_delays_the_save(tmp_path):
    options = dict(vote_interval=4, interval=100)
    cfg = config(tmp_path, 'term:iter=5', train_cfg__val_interval=100)
    cfg['default_hooks']['checkpoint'].update(options)
    assert run(cfg) == 0
    assert [path.name for path in tmp_path.glob('iter*.pth')] == ['iter_8.pth']


def test_no_second_save_of_the_same_step(tmp_path):
    """The interval and the signal ask for the same checkpoint."""
    assert run(config(tmp_path, 'term:iter=3')) == 0
    assert [path.name for path in tmp_path.glob('iter*.pth')] == ['iter_3.pth']


def test_a_repeated_signal_is_the_same_request(tmp_path):
    child = start_child(config(tmp_path), MMDISTILL_FAULT='term:iter=5@twice=0.05')
    child.join()
    assert child.exitcode == 0 and (tmp_path / 'preempted').exists()


def test_the_second_signal_ends_at_once(tmp_path):
    cfg = config(tmp_path)
    cfg['custom_hooks'][0]['second_after'] = 0.1
    child = start_child(cfg, MMDISTILL_FAULT='term:iter=5@twice=0.3')
    child.join()
    assert child.exitcode == 128 + signal.SIGTERM
    assert not (tmp_path / 'preempted').exists()
    assert [path.name for path in tmp_path.glob('iter*.pth')] == ['iter_3.pth']


def test_handlers_are_put_back_after_the_training(tmp_path):
    old = signal.getsignal(signal.SIGTERM)
    assert run(config(tmp_path)) == 0
    assert signal.getsignal(signal.SIGTERM) is old


def test_needs_safe_checkpoints(tmp_path):
    cfg = config(tmp_path)
    cfg['default_hooks']['checkpoint'] = dict(type='CheckpointHook', by_epoch=False)
    with pytest.raises(UserError, match='SafeCheckpointHook'):
        run(cfg)


def test_unknown_signal():
    with pytest.raises(UserError, match='SIGFOO'):
        PreemptHook(signals=('SIGFOO',))
