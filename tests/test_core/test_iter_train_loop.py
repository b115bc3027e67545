"""Laws of resuming: the resumed training is the unbroken one, bit by bit."""

import pytest
from mmengine.runner import Runner

from mmdistill.core.errors import UserError
from mmdistill.testing.compare import assert_same_state
from mmdistill.testing.noisy import NoisyDataset, noisy_config
from mmdistill.testing.resume_check import run, training_state

ITERS = 20


def cut_and_resume(tmp_path, stop, **changes):
    """States of an unbroken training and of one that is cut off and resumed."""
    whole = noisy_config(tmp_path / 'whole', ITERS, **changes)
    assert run(whole) == 0
    broken = noisy_config(tmp_path / 'broken', ITERS, **changes)
    broken['custom_hooks'][1]['fault'] = stop
    assert run(broken) == 7
    assert not (tmp_path / 'broken' / f'iter_{ITERS}.pth').exists()
    assert run(noisy_config(tmp_path / 'broken', ITERS, resume=True, **changes)) == 0
    name = f'iter_{ITERS}.pth'
    return training_state(tmp_path / 'whole' / name), training_state(tmp_path / 'broken' / name)


@pytest.mark.parametrize(
    'changes',
    [
        dict(),
        dict(train_dataloader__num_workers=2),
        dict(optim_wrapper__accumulative_counts=4),
        dict(train_dataloader__sampler=dict(type='DefaultSampler', shuffle=True)),
        dict(train_dataloader__sampler=dict(type='mmdistill.NaturalSampler')),
        dict(optim_wrapper__optimizer=dict(type='AdamW', lr=1e-2, betas=(0.9, 0.99))),
        dict(randomness=dict(seed=None)),
    ],
    ids=['plain', 'workers', 'accumulate', 'finite', 'skip', 'adamw', 'no-seed'],
)
def test_resumed_equals_unbroken(tmp_path, changes):
    if changes.get('randomness') == dict(seed=None):
        # the first run has to draw the same seed twice: give it one, and forget it on resume
        whole, broken = noisy_config(tmp_path / 'a', ITERS), noisy_config(tmp_path / 'b', ITERS)
        assert run(whole) == 0
        broken['custom_hooks'][1]['fault'] = 'exit:iter=14'
        assert run(broken) == 7
        assert run(noisy_config(tmp_path / 'b', ITERS, resume=True, **changes)) == 0
        states = [training_state(tmp_path / n / f'iter_{ITERS}.pth') for n in 'ab']
    else:
        states = cut_and_resume(tmp_path, 'exit:iter=14', **changes)
    assert_same_state(*states)


@pytest.mark.parametrize('stop', ['exit:iter=1', 'exit:iter=6@val_iter=3', 'exit:iter=7'])
def test_the_place_of_the_cut_does_not_matter(tmp_path, stop):
    """Before the first save, within a validation, and just after one."""
    assert_same_state(*cut_and_resume(tmp_path, stop))


def test_validation_cut_off_is_made_up_for(tmp_path):
    whole, broken = cut_and_resume(tmp_path, 'exit:iter=18@val_iter=2')
    assert len(whole['history']['val/accuracy']) == 3  # after 6, 12 and 18 iterations
    assert whole['history'] == broken['history'] and whole['best'] == broken['best']


def test_validation_leaves_the_training_alone(tmp_path):
    """With and without validation the same weights come out."""
    states = []
    for name, interval in (('often', 2), ('never', 1000)):
        cfg = noisy_config(tmp_path / name, 8, train_cfg__val_interval=interval)
        if name == 'never':
            cfg.update(val_cfg=None, val_dataloader=None, val_evaluator=None)
            cfg['default_hooks']['checkpoint']['save_best'] = None
        assert run(cfg) == 0
        states.append(training_state(tmp_path / name / 'iter_8.pth'))
    assert_same_state(states[0]['state_dict'], states[1]['state_dict'])


def test_saving_leaves_the_training_alone(tmp_path):
    states = []
    for interval in (1, 100):
        work_dir = tmp_path / str(interval)
        cfg = noisy_config(work_dir, 8, default_hooks__checkpoint__interval=interval)
        assert run(cfg) == 0
        states.append(training_state(work_dir / 'iter_8.pth'))
    assert_same_state(*states)


def test_workers_do_not_matter(tmp_path):
    """The data are a function of the position, not of who makes them."""
    states = []
    for workers in (0, 1, 3):
        work_dir = tmp_path / str(workers)
        assert run(noisy_config(work_dir, 7, train_dataloader__num_workers=workers)) == 0
        states.append(training_state(work_dir / 'iter_7.pth')['state_dict'])
    assert_same_state(states[0], states[1])
    assert_same_state(states[0], states[2])


def test_resume_makes_no_sample_again(tmp_path, monkeypatch):
    run(noisy_config(tmp_path, 12))
    made = []
    original = NoisyDataset.__getitem__
    monkeypatch.setattr(
        NoisyDataset, '__getitem__', lambda self, i: made.append(i) or original(self, i)
    )
    cfg = noisy_config(tmp_path, 14, resume=True)
    cfg.update(val_cfg=None, val_dataloader=None, val_evaluator=None)
    cfg['default_hooks']['checkpoint']['save_best'] = None
    run(cfg)
    assert len(made) == 2 * 2  # two iterations of two samples


def test_finite_sampler_covers_each_epoch(tmp_path):
    cfg = noisy_config(tmp_path, 3, train_dataloader__sampler=dict(type='DefaultSampler'))
    cfg['custom_hooks'] = []
    loop = Runner.from_cfg(dict(cfg, experiment_name=str(tmp_path))).build_train_loop(
        cfg['train_cfg']
    )
    batches = iter(loop.dataloader.batch_sampler)
    for _ in range(3):
        seen = [index for _ in range(7) for _, index in next(batches)]
        assert sorted(seen) == list(range(13))


@pytest.mark.parametrize('sampler', ['DefaultSampler', 'InfiniteSampler'])
def test_empty_dataset_is_an_error(tmp_path, sampler):
    cfg = noisy_config(tmp_path, 3, train_dataloader__dataset__length=0)
    cfg['train_dataloader']['sampler'] = dict(type=sampler, shuffle=False)
    with pytest.raises(UserError, match='dataset is empty'):
        run(cfg)


def test_dataset_without_a_whole_batch_is_an_error(tmp_path):
    cfg = noisy_config(tmp_path, 3, train_dataloader__dataset__length=1)
    cfg['train_dataloader'].update(
        sampler=dict(type='DefaultSampler', shuffle=False), drop_last=True
    )
    with pytest.raises(UserError, match='yields no batch'):
        run(cfg)


def test_fractional_iterations_are_refused(tmp_path):
    with pytest.raises(ValueError, match='whole number'):
        run(noisy_config(tmp_path, 2.5))
