"""Laws of resuming a training by epochs: at their boundaries, and within them."""

import pytest
from mmengine.runner import Runner

from mmdistill.testing.compare import assert_same_state
from mmdistill.testing.noisy import noisy_config
from mmdistill.testing.resume_check import run, training_state

EPOCHS = 4  # of 7 batches


def epoch_config(work_dir, loop='mmdistill.EpochTrainLoop', **changes):
    """The noisy training by epochs."""
    cfg = noisy_config(work_dir, **changes)
    cfg['train_cfg'] = dict(type=loop, max_epochs=EPOCHS, val_interval=2)
    cfg['train_dataloader']['sampler'] = dict(type='DefaultSampler', shuffle=True)
    cfg['default_hooks']['checkpoint'].update(by_epoch=True, interval=1)
    cfg['param_scheduler'] = [
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=9),
        dict(type='MultiStepLR', by_epoch=True, milestones=[2, 3], gamma=0.5),
    ]
    return cfg


def cut_and_resume(tmp_path, stop, loop='mmdistill.EpochTrainLoop', **changes):
    """Final states of an unbroken training and of one that was cut off and resumed."""
    assert run(epoch_config(tmp_path / 'whole', loop, **changes)) == 0
    cfg = epoch_config(tmp_path / 'broken', loop, **changes)
    cfg['custom_hooks'][1]['fault'] = stop
    assert run(cfg) == (7 if stop.startswith('exit') else 0)
    assert run(epoch_config(tmp_path / 'broken', loop, resume=True, **changes)) == 0
    name = f'epoch_{EPOCHS}.pth'
    return training_state(tmp_path / 'whole' / name), training_state(tmp_path / 'broken' / name)


@pytest.mark.parametrize('loop', ['mmdistill.EpochTrainLoop', 'EpochBasedTrainLoop'])
@pytest.mark.parametrize('workers', [0, 2])
def test_resume_at_a_boundary_is_exact(tmp_path, loop, workers):
    """Cut within the second epoch; the first one's checkpoint is resumed."""
    states = cut_and_resume(tmp_path, 'exit:iter=10', loop, train_dataloader__num_workers=workers)
    assert_same_state(*states)


@pytest.mark.parametrize('stop', ['term:iter=9', 'usr1:iter=14', 'term:val_iter=2'])
def test_preempted_within_an_epoch_is_exact(tmp_path, stop):
    """Within, at the last iteration of an epoch, and in its validation."""
    assert_same_state(*cut_and_resume(tmp_path, stop))


def test_persistent_workers_do_not_matter(tmp_path):
    states = []
    for name, options in (('none', {}), ('kept', dict(num_workers=2, persistent_workers=True))):
        cfg = epoch_config(tmp_path / name)
        cfg['train_dataloader'].update(options)
        assert run(cfg) == 0
        states.append(training_state(tmp_path / name / f'epoch_{EPOCHS}.pth'))
    assert_same_state(*states)


def test_epochs_differ(tmp_path):
    """A sample is noised differently in each epoch, with workers that are started anew too."""
    cfg = epoch_config(tmp_path, train_dataloader__num_workers=1)
    cfg['train_dataloader']['sampler'] = dict(type='DefaultSampler', shuffle=False)
    loop = Runner.from_cfg(dict(cfg, experiment_name=str(tmp_path))).build_train_loop(
        cfg['train_cfg']
    )
    first = []
    for epoch in (0, 1, 0):
        loop.dataloader.batch_sampler.set_epoch(epoch)
        first.append(next(iter(loop.dataloader))['inputs'][0])
    assert not first[0].equal(first[1]) and first[0].equal(first[2])
