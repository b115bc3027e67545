"""Command line and config: misspelt keys, resume, mixed precision, ranks without GPUs."""

import argparse

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


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ("load_frm = '/x.pth'", "'load_frm' .did you mean 'load_from'"),
        ('resum = True', "'resum' .did you mean 'resume'"),
        ("workdir = 'x'", "'workdir' .did you mean 'work_dir'"),
        ('find_unused_paramters = True', "did you mean 'find_unused_parameters'"),
        ('train_dataloder = dict(batch_size=4)', "'train_dataloder' .did you mean"),
        ('custom_hook = []', "'custom_hook' .did you mean 'custom_hooks'"),
        ('default_hooks = dict(chekpoint=dict(interval=3))', "default_hooks .* 'chekpoint' .did"),
        ('env_cfg = dict(cudnn_benchmrk=True)', "env_cfg .* 'cudnn_benchmrk' .did you mean"),
        ('env_cfg = dict(anything=True)', "env_cfg does not know 'anything'"),
    ],
)
def test_misspelt_keys_beside_right_ones_of_the_base(tmp_path, line, message):
    base, child = tmp_path / 'base.py', tmp_path / 'child.py'
    names = sorted(launch.RUNNER_KEYS - {'custom_imports', 'default_hooks', 'env_cfg'})
    base.write_text('\n'.join(f'{name} = None' for name in names))
    child.write_text(f"_base_ = 'base.py'\n{line}\n")
    with pytest.raises(UserError, match=f'{child}: .*{message}'):
        launch.read_config(child)


def test_hooks_of_own_names_and_variables_are_allowed(tmp_path):
    path = tmp_path / 'c.py'
    path.write_text("default_hooks = dict(badcase=dict(type='A'))\ntest_pipeline = [1]\nlr = 1\n")
    assert launch.read_config(path).lr == 1


@pytest.mark.parametrize(
    ('name', 'text', 'message'),
    [
        ('c.py', 'a = 1\nb = c\n', "c.py, line 2: name 'c' is not defined"),
        ('c.py', 'a = 1\nb = (\n', 'c.py, line 2: .*never closed'),
        ('c.py', "_base_ = 'none.py'\n", 'none.py: No such file or directory'),
        ('c.py', 'a = dict(b=1)\nc = a.b\n', "c.py, line 2: 'dict' object has no"),
        (
            'c.py',
            "custom_imports = dict(imports=['mmdistil'])",
            "c.py, custom_imports: No module named 'mmdistil'",
        ),
        ('c.json', '{"a": 1,', 'c.json, line 1: '),
        ('c.yaml', 'a: [1', 'c.yaml: '),
        ('c.txt', 'a = 1', 'c.txt: Only py/yml'),
    ],
)
def test_a_broken_config_is_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        launch.read_config(tmp_path / name)
    assert '\n' not in str(caught.value)


def test_a_broken_base_is_named(tmp_path):
    (tmp_path / 'base.py').write_text('a = b\n')
    (tmp_path / 'child.py').write_text("_base_ = 'base.py'\n")
    with pytest.raises(UserError, match="base.py, line 1: name 'b' is not defined"):
        launch.read_config(tmp_path / 'child.py')


def test_options_without_a_value_are_refused(capsys):
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=launch.ConfigOptions)
    assert parser.parse_args(['--cfg-options', 'a.b=1']).cfg_options == {'a.b': 1}
    with pytest.raises(SystemExit):
        parser.parse_args(['--cfg-options', 'a'])
    assert "'a' is not of the form key=value" in capsys.readouterr().err


def test_work_dir(cfg, tmp_path):
    launch.choose_work_dir(cfg, 'configs/x/name.py', None)
    assert cfg.work_dir == 'work_dirs/name'
    launch.choose_work_dir(cfg, 'configs/x/other.py', None)
    assert cfg.work_dir == 'work_dirs/name'
    launch.choose_work_dir(cfg, 'configs/x/other.py', 'mine')
    assert cfg.work_dir == 'mine'
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='it is a file'):
        launch.choose_work_dir(cfg, 'configs/x/name.py', str(tmp_path / 'file'))


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
