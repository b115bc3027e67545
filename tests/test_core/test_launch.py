"""Command line and config: misspelt keys, resume, mixed precision, ranks without GPUs."""

import pytest
import torch
from mmengine.config import Config

from mmdistill.core import launch
from mmdistill.core.errors import UserError


@pytest.fixture
def cfg():
    """A small config."""
    return Config(
        dict(
            model=dict(type='Toy', head=dict(width=3)),
            optim_wrapper=dict(type='OptimWrapper', clip_grad=None, optimizer=dict(lr=0.1)),
            custom_hooks=[dict(type='A', keep=1), dict(type='B')],
            default_hooks=dict(checkpoint=dict(type='mmdistill.SafeCheckpointHook')),
            load_from='burn_in.pth',
            extra=dict(),
        )
    )


@pytest.mark.parametrize(
    ('option', 'value', 'read'),
    [
        ('model.head.width', 5, lambda c: c.model.head.width),
        ('custom_hooks.0.keep', 5, lambda c: c.custom_hooks[0].keep),
        ('randomness.seed', 5, lambda c: c.randomness.seed),  # a key of the runner
        ('extra.anything.goes', 5, lambda c: c.extra.anything.goes),  # an empty dict
        ('optim_wrapper.clip_grad.max_norm', 5, lambda c: c.optim_wrapper.clip_grad.max_norm),
        ('+model.tail.width', 5, lambda c: c.model.tail.width),
        ('+mine', 5, lambda c: c.mine),
    ],
)
def test_options_that_are_taken(cfg, option, value, read):
    cfg.merge_from_dict(launch.checked_options(cfg, {option: value}))
    assert read(cfg) == value


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('modle.head.width', "the config has no key 'modle' .did you mean 'model'"),
        ('model.haed.width', r"model has no key 'haed' .did you mean 'head'.*\+model.haed.width"),
        ('model.head.widht', "model.head has no key 'widht' .did you mean 'width'"),
        ('custom_hooks.2.keep', 'custom_hooks is a list of 2'),
        ('custom_hooks.first.keep', "'first' is no number"),
        ('load_from.x', "load_from is the value 'burn_in.pth'"),
    ],
)
def test_options_that_are_refused(cfg, option, message):
    with pytest.raises(UserError, match=message):
        launch.checked_options(cfg, {option: 1})


def test_misspelt_top_level_key_in_a_config(tmp_path):
    path = tmp_path / 'c.py'
    path.write_text('default_hook = dict(a=1)\nvalue = 3\n')
    with pytest.raises(UserError, match="'default_hook' .did you mean 'default_hooks'"):
        launch.read_config(path)
    path.write_text('train_pipeline = [1]\nval_dataset = dict(a=1)\ndata_root = 3\n')
    assert launch.read_config(path, {'data_root': 4}).data_root == 4
    with pytest.raises(UserError, match='no such config'):
        launch.read_config(tmp_path / 'none.py')


def test_work_dir(cfg):
    launch.choose_work_dir(cfg, 'configs/x/name.py', None)
    assert cfg.work_dir == 'work_dirs/name'
    launch.choose_work_dir(cfg, 'configs/x/other.py', None)
    assert cfg.work_dir == 'work_dirs/name'
    launch.choose_work_dir(cfg, 'configs/x/other.py', 'mine')
    assert cfg.work_dir == 'mine'


def test_resume(cfg, tmp_path):
    launch.set_resume(cfg, None)
    assert 'resume' not in cfg
    launch.set_resume(cfg, 'auto')
    assert cfg.resume == 'auto' and cfg.load_from == 'burn_in.pth'
    cfg.default_hooks.checkpoint.type = 'CheckpointHook'
    launch.set_resume(cfg, 'auto')
    assert cfg.resume is True and cfg.load_from is None
    with pytest.raises(UserError, match='no such file'):
        launch.set_resume(cfg, str(tmp_path / 'none.pth'))
    (tmp_path / 'a.pth').touch()
    launch.set_resume(cfg, str(tmp_path / 'a.pth'))
    assert cfg.resume is True and cfg.load_from == str(tmp_path / 'a.pth')


def test_amp(cfg, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(UserError, match='--amp needs a GPU'):
        launch.set_amp(cfg)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    launch.set_amp(cfg)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert cfg.optim_wrapper.loss_scale == 'dynamic'
    cfg.optim_wrapper.type = 'Other'
    with pytest.raises(UserError, match="'Other'"):
        launch.set_amp(cfg)


def test_auto_scale_lr(cfg):
    with pytest.raises(UserError, match='base_batch_size'):
        launch.set_auto_scale_lr(cfg)
    cfg.auto_scale_lr = dict(base_batch_size=16, enable=False)
    launch.set_auto_scale_lr(cfg)
    assert cfg.auto_scale_lr.enable is True


@pytest.mark.parametrize('launcher', ['pytorch', 'slurm', 'mpi'])
def test_missing_variables_of_a_launcher(cfg, launcher, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    for name in ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=f'--launcher {launcher}: .*RANK|SLURM_PROCID'):
        launch.join_ranks(cfg, launcher)


@pytest.mark.parametrize(
    ('launcher', 'names'),
    [
        ('pytorch', ('RANK', 'WORLD_SIZE', 'LOCAL_RANK')),
        ('slurm', ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID')),
    ],
)
def test_cpu_ranks_are_made_before_the_runner(cfg, launcher, names, monkeypatch):
    made = []
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(launch.torch_dist, 'init_process_group', lambda *a, **k: made.append(a))
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_PORT'):
        monkeypatch.setenv(name, 'x')
    for name, value in zip(names, ('1', '2', '0'), strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv('MASTER_ADDR', 'here')
    launch.join_ranks(cfg, launcher)
    assert made == [('gloo',)]
    assert [launch.os.environ[n] for n in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK')] == ['1', '2', '0']
    assert cfg.model_wrapper_cfg.device_ids is None and cfg.launcher == launcher
    assert cfg.model_wrapper_cfg.type == 'MMDistributedDataParallel'


def test_a_wrapper_in_the_config_is_kept(cfg, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(launch.torch_dist, 'init_process_group', lambda *a, **k: None)
    for name, value in dict(RANK='0', WORLD_SIZE='1', LOCAL_RANK='0').items():
        monkeypatch.setenv(name, value)
    cfg.model_wrapper_cfg = dict(type='MMDistributedDataParallel', static_graph=True)
    launch.join_ranks(cfg, 'pytorch')
    assert cfg.model_wrapper_cfg.static_graph and cfg.model_wrapper_cfg.device_ids is None


def test_without_launcher_and_with_gpus_nothing_is_made(cfg, monkeypatch):
    launch.join_ranks(cfg, 'none')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    launch.join_ranks(cfg, 'pytorch')
    assert 'model_wrapper_cfg' not in cfg and cfg.launcher == 'pytorch'
    launch.leave_ranks()
