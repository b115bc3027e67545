"""Laws of SafeCheckpointHook: what is kept, what is said, what a stop at any stage leaves."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmdistill.core.checkpoint_folder import candidates, newest_valid
from mmdistill.core.checkpoint_io import read_record, seam, why_invalid
from mmdistill.core.compat import safe_load
from mmdistill.core.errors import UserError
from mmdistill.core.hooks.safe_checkpoint import SafeCheckpointHook
from mmdistill.testing.compare import assert_same_state
from mmdistill.testing.noisy import NoisyDataset, noisy_config
from mmdistill.testing.resume_check import run, training_state


class Halt(BaseException):
    """Stands for a kill."""


@pytest.fixture
def observer():
    """Puts the seam back."""
    old = seam.observer
    yield seam
    seam.observer = old


def config(work_dir, iters=8, **changes):
    """Noisy training without validation."""
    cfg = noisy_config(work_dir, iters, **changes)
    cfg.update(val_cfg=None, val_dataloader=None, val_evaluator=None)
    cfg['default_hooks']['checkpoint']['save_best'] = None
    return cfg


def files(work_dir, pattern='*.pth'):
    """Names of checkpoints."""
    return sorted(path.name for path in Path(work_dir).glob(pattern))


def test_the_last_ones_are_kept_and_the_pointer_leads_to_the_newest(tmp_path):
    assert run(config(tmp_path)) == 0
    assert files(tmp_path) == ['iter_6.pth', 'iter_8.pth']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'iter_8.pth')
    assert not list(tmp_path.glob('.mmdistill*'))


def test_kept_all_and_out_dir(tmp_path):
    changes = dict(max_keep_ckpts=-1, out_dir=str(tmp_path / 'store'))
    cfg = config(tmp_path / 'work')
    cfg['default_hooks']['checkpoint'].update(changes)
    assert run(cfg) == 0
    assert files(tmp_path / 'store' / 'work') == ['iter_3.pth', 'iter_6.pth', 'iter_8.pth']
    cfg = config(tmp_path / 'work', resume=True)
    cfg['default_hooks']['checkpoint'].update(changes)
    assert run(cfg) == 0


def test_remote_folders_are_refused():
    hook = SafeCheckpointHook(out_dir='s3://bucket/x')
    runner = type('R', (), dict(work_dir='w', _resume=False))()
    with pytest.raises(UserError, match='no local folder'):
        hook.before_run(runner)


@pytest.mark.parametrize('stage', ['write', 'sync', 'replace', 'replaced', 'pointer', 'prune'])
@pytest.mark.parametrize('keep', [1, 2])
def test_a_stop_at_any_stage_of_any_save_loses_at_most_that_save(tmp_path, observer, stage, keep):
    cfg = config(tmp_path, iters=9, default_hooks__checkpoint__max_keep_ckpts=keep)
    seen = []

    def _halt(now, path, done):
        if now == stage and (path.suffix == '.pth' or now == 'pointer'):
            if now != 'write' or path not in seen:
                seen.append(path)
            if len(seen) == 2 or now == 'prune':
                raise Halt

    observer.observer = _halt
    with pytest.raises(Halt):
        run(cfg)
    observer.observer = lambda *args: None
    found = newest_valid(tmp_path)
    assert found is not None and read_record(found).iter >= 3
    assert all(why_invalid(path) is None for path in candidates(tmp_path))
    cfg['resume'] = True
    assert run(cfg) == 0
    assert len(files(tmp_path)) == keep and 'iter_9.pth' in files(tmp_path)
    other = tmp_path / 'other'
    assert run(config(other, 9, default_hooks__checkpoint__max_keep_ckpts=keep)) == 0
    assert_same_state(training_state(other / 'iter_9.pth'), training_state(tmp_path / 'iter_9.pth'))


def test_resume_skips_a_damaged_newest_one(tmp_path, capsys):
    run(config(tmp_path))
    path = tmp_path / 'iter_8.pth'
    whole = training_state(path)
    path.write_bytes(path.read_bytes()[:5000])
    assert run(config(tmp_path, resume=True)) == 0
    said = capsys.readouterr().out
    assert 'iter_8.pth is damaged' in said and 'iter_6.pth is used' in said
    assert (tmp_path / 'iter_8.pth.damaged').exists()
    assert_same_state(training_state(path), whole)


def test_resume_of_a_named_damaged_file_is_an_error(tmp_path):
    run(config(tmp_path))
    path = tmp_path / 'iter_6.pth'
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r'iter_6.pth: cannot resume from it.*--resume alone'):
        run(config(tmp_path, resume=True, load_from=str(path)))
    assert path.exists()


def test_resume_with_nothing_valid_is_an_error(tmp_path):
    (tmp_path / 'iter_6.pth').write_bytes(b'broken')
    with pytest.raises(UserError, match='no valid checkpoint'):
        run(config(tmp_path, resume=True))


def test_auto_resume_starts_from_weights_when_there_is_nothing(tmp_path):
    """The same command line serves the first start and every restart."""
    run(config(tmp_path / 'burn_in', 3))
    weights = str(tmp_path / 'burn_in' / 'iter_3.pth')
    states = []
    for name, options in (('plain', {}), ('auto', dict(resume='auto'))):
        assert run(config(tmp_path / name, 6, load_from=weights, **options)) == 0
        states.append(training_state(tmp_path / name / 'iter_6.pth'))
    assert_same_state(*states)
    assert run(config(tmp_path / 'auto', 8, load_from=weights, resume='auto')) == 0
    assert safe_load(tmp_path / 'auto' / 'iter_8.pth')['meta']['iter'] == 8


def test_resume_in_a_moved_work_dir(tmp_path):
    run(config(tmp_path / 'old', 6))
    shutil.move(tmp_path / 'old', tmp_path / 'new')
    assert run(config(tmp_path / 'new', 8, resume=True)) == 0
    assert not (tmp_path / 'old').exists()
    assert files(tmp_path / 'new') == ['iter_6.pth', 'iter_8.pth']


def test_a_new_start_in_an_old_folder_wins_over_what_lies_there(tmp_path):
    run(config(tmp_path, 9))
    run(config(tmp_path, 3))
    assert newest_valid(tmp_path).name == 'iter_3.pth'
    assert read_record(tmp_path / 'iter_3.pth').run == 2


def test_foreign_checkpoint_resumes_with_a_warning(tmp_path, capsys):
    cfg = config(tmp_path, 6)
    cfg['default_hooks']['checkpoint'] = dict(type='CheckpointHook', by_epoch=False, interval=3)
    cfg['custom_hooks'] = []
    run(cfg)
    assert run(config(tmp_path, 8, resume=True)) == 0
    assert 'no exact resume' in capsys.readouterr().out


def test_changed_data_are_said_on_resume(tmp_path, capsys):
    run(config(tmp_path, 6))
    assert run(config(tmp_path, 8, resume=True, train_dataloader__batch_size=3)) == 0
    assert 'batch_size of the training data is 3 and was 2' in capsys.readouterr().out


def test_other_labels_are_refused_on_resume(tmp_path, monkeypatch):
    monkeypatch.setattr(NoisyDataset, 'split_id', 'four of ten', raising=False)
    run(config(tmp_path, 6))
    before = files(tmp_path)
    monkeypatch.setattr(NoisyDataset, 'split_id', 'eight of ten')
    with pytest.raises(UserError, match='four of ten.*eight of ten.*split_file'):
        run(config(tmp_path, 8, resume=True))
    assert files(tmp_path) == before
    monkeypatch.setattr(NoisyDataset, 'split_id', 'four of ten')
    assert run(config(tmp_path, 8, resume=True)) == 0


def test_stock_loop_is_said_to_be_inexact(tmp_path, capsys):
    train_cfg = dict(type='IterBasedTrainLoop', max_iters=6)
    run(config(tmp_path, 6, train_cfg=train_cfg))
    assert run(config(tmp_path, 8, train_cfg=dict(train_cfg, max_iters=8), resume=True)) == 0
    assert 'mmdistill.IterTrainLoop resumes exactly' in capsys.readouterr().out


def test_save_now(tmp_path):
    """The file is answered at the next iteration, once, and is gone."""

    class Toucher(Hook):
        priority = 'HIGH'

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if runner.iter == 3:
                Path(runner.work_dir, 'save_now').touch()

    cfg = config(tmp_path, default_hooks__checkpoint__interval=100)
    assert run(cfg, Toucher()) == 0
    assert files(tmp_path) == ['iter_4.pth', 'iter_8.pth']
    assert not (tmp_path / 'save_now').exists()


class Metrics(Hook):
    """Puts chosen metrics in the place of the measured ones."""

    priority = 'VERY_HIGH'

    def __init__(self, values):
        self.values = values

    def after_val_epoch(self, runner, metrics=None):
        metrics.clear()
        metrics.update(self.values[runner.iter])


def best_config(work_dir, values, **options):
    """Validates after 2, 4, 6 and 8 iterations with given metrics."""
    cfg = noisy_config(work_dir, 8, train_cfg__val_interval=2)
    cfg['default_hooks']['checkpoint'].update(dict(interval=4, **options))
    return cfg, Metrics(values)


def test_best_with_branch_prefix(tmp_path):
    key = 'student/Kitti/Car_3D_AP40_moderate_strict'
    values = {i: {'teacher/x': 0.0, key: v} for i, v in {2: 1.0, 4: 3.0, 6: 2.0, 8: 3.0}.items()}
    assert run(*best_config(tmp_path, values, save_best=key)) == 0
    best = f'best_{key.replace("/", "_")}_iter_4.pth'
    assert files(tmp_path, 'best*') == [best]
    content = safe_load(tmp_path / best)
    assert 'optimizer' not in content and content['meta']['iter'] == 4
    assert not read_record(tmp_path / best).resumable
    info = safe_load(tmp_path / 'iter_4.pth')['message_hub']['runtime_info']
    assert info['best_score'] == 3.0 and info['best_ckpt'] == str(tmp_path / best)


def test_several_bests_with_rules(tmp_path):
    values = {
        i: dict(up=float(u), err=float(d))
        for i, u, d in [(2, 1, 5), (4, 2, 6), (6, 1, 4), (8, 3, 4)]
    }  # noqa: E501
    options = dict(save_best=['up', 'err'], rule=['greater', 'less'])
    assert run(*best_config(tmp_path, values, **options)) == 0
    assert files(tmp_path, 'best*') == ['best_err_iter_6.pth', 'best_up_iter_8.pth']


def test_best_auto_takes_the_first_metric(tmp_path):
    values = {i: {'acc': float(i), 'other': 0.0} for i in (2, 4, 6, 8)}
    assert run(*best_config(tmp_path, values, save_best='auto')) == 0
    assert files(tmp_path, 'best*') == ['best_acc_iter_8.pth']


def test_unknown_best_key_names_near_ones(tmp_path):
    values = {i: {'student/mAP_moderate': 1.0} for i in (2, 4, 6, 8)}
    with pytest.raises(UserError, match=r"'student/mAP_modrate'.*did you mean 'student/mAP_mod"):
        run(*best_config(tmp_path, values, save_best='student/mAP_modrate'))


def test_the_old_best_goes_after_the_new_one_came(tmp_path, observer):
    values = {i: {'acc': float(i)} for i in (2, 4, 6, 8)}

    def _halt(stage, path, done):
        if stage == 'replace' and path.name == 'best_acc_iter_6.pth':
            raise Halt

    observer.observer = _halt
    with pytest.raises(Halt):
        run(*best_config(tmp_path, values, save_best='acc'))
    assert files(tmp_path, 'best*') == ['best_acc_iter_4.pth']
    observer.observer = lambda *args: None
    cfg, hook = best_config(tmp_path, values, save_best='acc')
    assert run(dict(cfg, resume=True), hook) == 0
    assert files(tmp_path, 'best*') == ['best_acc_iter_8.pth']


def test_published_model(tmp_path):
    cfg = config(tmp_path)
    cfg['default_hooks']['checkpoint']['published_keys'] = ['meta', 'state_dict']
    assert run(cfg) == 0
    (published,) = [name for name in files(tmp_path) if name.startswith('iter_8-')]
    assert set(safe_load(tmp_path / published)) == {'meta', 'state_dict'}


def test_hooks_may_add_to_the_checkpoint(tmp_path):
    class Adds(Hook):
        def before_save_checkpoint(self, runner, checkpoint):
            checkpoint['mine'] = 5

    cfg = config(tmp_path)
    assert run(cfg, Adds()) == 0
    assert safe_load(tmp_path / 'iter_8.pth')['mine'] == 5


def test_checkpoint_has_mmengines_layout(tmp_path):
    cfg = config(tmp_path / 'ours', 6)
    run(cfg)
    cfg = config(tmp_path / 'theirs', 6)
    cfg['default_hooks']['checkpoint'] = dict(type='CheckpointHook', by_epoch=False, interval=6)
    cfg['custom_hooks'] = []
    run(cfg)
    ours, theirs = (safe_load(tmp_path / name / 'iter_6.pth') for name in ('ours', 'theirs'))
    assert set(ours) == {*theirs, 'mmdistill'}
    assert set(ours['meta']) == set(theirs['meta'])
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        assert_same_state(ours[part], theirs[part])
    assert set(ours['message_hub']) == set(theirs['message_hub'])


@pytest.mark.parametrize('bad', [dict(filename_tmpl='x.pth'), dict(vote_interval=0)])
def test_bad_arguments(bad):
    with pytest.raises(UserError):
        SafeCheckpointHook(**bad)


def test_unknown_arguments_are_refused():
    with pytest.raises(TypeError, match='intervall'):
        SafeCheckpointHook(intervall=3)


def test_weights_load_in_a_plain_run(tmp_path):
    run(config(tmp_path / 'a', 3))
    path = str(tmp_path / 'a' / 'iter_3.pth')
    cfg = config(tmp_path / 'b', 3, load_from=path)
    runner = Runner.from_cfg(dict(cfg, experiment_name='plain-load'))
    runner.call_hook('before_run')
    runner.load_or_resume()
    assert_same_state(
        runner.model.state_dict(), dict(torch.load(path, weights_only=False)['state_dict'])
    )
    assert runner.iter == 0 and os.path.exists(path)
