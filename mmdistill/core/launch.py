"""From a config and a command line to a runner: checked keys, resume, ranks without GPUs."""

import argparse
import inspect
import os
import subprocess
import sys
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as torch_dist
from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from mmdistill.core.errors import UserError, did_you_mean

RUNNER_KEYS = {
    *inspect.signature(Runner.__init__).parameters,
    'activation_checkpointing',
    'compile',
    'custom_imports',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'runner_type',
    'sync_bn',
} - {'self', 'cfg'}
HOOK_KEYS = {
    'checkpoint',
    'logger',
    'param_scheduler',
    'runtime_info',
    'sampler_seed',
    'timer',
    'visualization',
}
ENV_KEYS = {'cudnn_benchmark', 'dist_cfg', 'mp_cfg', 'resource_limit'}

_RANK_VARIABLES = dict(
    slurm=('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
    mpi=('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'),
)


def read_config(path: str | os.PathLike, options: dict[str, Any] | None = None) -> Config:
    """Reads a config, merges ``--cfg-options`` and looks for misspelt keys.

    Args:
        path: The config file.
        options: Dotted keys and values. A key must exist in the config or be one of the
            runner's; ``+key`` adds a new one.

    Returns:
        The config.

    Raises:
        UserError: For a file that is missing or broken, or a key that is not in the config.
    """
    if not Path(path).is_file():
        raise UserError(f'{path}: there is no such config')
    try:
        cfg = Config.fromfile(path)
    except Exception as error:
        line = _config_error(error, path)
        if line is None:
            raise
        raise UserError(line) from error
    prepare_hosts()
    if options:
        cfg.merge_from_dict(checked_options(cfg, options))
    check_keys(cfg, path)
    return cfg


def _config_error(error: Exception, path: str | os.PathLike) -> str | None:
    """One line about a config that cannot be read; None if the error is not the config's."""
    place, line = str(path), getattr(error, 'lineno', None)
    for frame, number in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == '_file2dict':  # also of its base files
            place = frame.f_locals.get('filename', place)
        if frame.f_code.co_filename == place:
            line = number
    ours = isinstance(error, (SyntaxError, ImportError, OSError))
    if not ours and line is None and place.endswith('.py'):
        return None
    if isinstance(error, ImportError) and line is None:
        while isinstance(error.__context__, ImportError):
            error = error.__context__
        place += ', custom_imports'
    said = getattr(error, 'msg', None) or getattr(error, 'strerror', None) or error
    text = ' '.join(str(said).split())
    return f'{place}{f", line {line}" if line else ""}: {text}'


def check_keys(cfg: Config, path: str | os.PathLike) -> None:
    """Looks for misspelt keys that the runner would silently leave unused.

    A config may hold variables of any other name, and hooks of any other name.

    Args:
        cfg: The config.
        path: Its file, for the message.

    Raises:
        UserError: For the first one.
    """
    env = cfg.get('env_cfg') or {}
    for where, keys, known, cutoff in (
        ('the runner', cfg, RUNNER_KEYS, 0.88),
        ('default_hooks', cfg.get('default_hooks') or {}, HOOK_KEYS, 0.8),
        ('env_cfg', env, ENV_KEYS, 0.6),
    ):
        for key in set(keys) - known:
            near = did_you_mean(key, known, cutoff)
            if near or keys is env:
                raise UserError(f'{path}: {where} does not know {key!r}{near}: rename it')


class ConfigOptions(DictAction):
    """``DictAction`` that says in one line which word is no ``key=value``."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        """Reads the words."""
        for word in values:
            if '=' not in word:
                raise argparse.ArgumentError(self, f'{word!r} is not of the form key=value')
        super().__call__(parser, namespace, values, option_string)


def prepare_hosts() -> None:
    """Calls ``prepare`` of every imported ``mmdistill.<host>.compat``: fixes for its host."""
    for name, module in tuple(sys.modules.items()):
        if name.startswith('mmdistill.') and name.endswith('.compat'):
            getattr(module, 'prepare', lambda: None)()


def checked_options(cfg: Config, options: dict[str, Any]) -> dict[str, Any]:
    """Checks that ``--cfg-options`` name things that exist.

    Args:
        cfg: The config.
        options: Dotted keys and values; list items go by number.

    Returns:
        The options without the ``+`` of new keys.

    Raises:
        UserError: For the first key that is not there; it names near ones.
    """
    checked = {}
    for key, value in options.items():
        if not key.startswith('+'):
            replaced = _check_key(cfg.to_dict(), key)
            if replaced is not None:
                checked[f'{replaced}._delete_'] = True
        checked[key.removeprefix('+')] = value
    return checked


def _check_key(node: Any, key: str) -> str | None:
    """Walks down one dotted key; gives the part of it that is None now, if there is one."""
    parts = key.split('.')
    for depth, part in enumerate(parts):
        where = '.'.join(parts[:depth]) or 'the config'
        if isinstance(node, dict):
            if part not in node:
                known = set(node) | (RUNNER_KEYS if depth == 0 else set())
                if part in known or not node:
                    return None
                raise UserError(
                    f'--cfg-options {key}: {where} has no key {part!r}'
                    f'{did_you_mean(part, known)}; to add a new key write +{key}=...'
                )
            node = node[part]
        elif isinstance(node, (list, tuple)):
            if not part.isdigit() or int(part) >= len(node):
                raise UserError(
                    f'--cfg-options {key}: {where} is a list of {len(node)}, {part!r} is no '
                    'number of an item in it'
                )
            node = node[int(part)]
        elif node is None:
            return where
        else:
            raise UserError(
                f'--cfg-options {key}: {where} is the value {node!r} and has no keys; change it '
                'in the config file'
            )
    return None


def choose_work_dir(cfg: Config, path: str | os.PathLike, work_dir: str | None) -> None:
    """Sets the work dir: command line, then config, then ``./work_dirs/<config name>``.

    Args:
        cfg: The config, changed in place.
        path: The config file.
        work_dir: From the command line.

    Raises:
        UserError: If it is a file.
    """
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs', Path(path).stem))
    if Path(cfg.work_dir).is_file():
        raise UserError(f'--work-dir {cfg.work_dir}: it is a file, name a folder')


def set_resume(cfg: Config, resume: str | None) -> None:
    """Sets what ``--resume [PATH]`` asks for.

    Args:
        cfg: The config, changed in place.
        resume: None, ``'auto'`` (newest valid checkpoint of the work dir; the training starts
            from ``load_from`` if there is none), or a file.

    Raises:
        UserError: If the file is missing.
    """
    if resume is None:
        return
    if resume != 'auto':
        if '://' not in resume and not Path(resume).is_file():
            raise UserError(f'--resume {resume}: there is no such file')
        cfg.resume, cfg.load_from = True, resume
        return
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    safe = str(hook.get('type', '')).endswith('SafeCheckpointHook')
    cfg.resume = 'auto' if safe else True
    if not safe:
        cfg.load_from = None


def set_amp(cfg: Config) -> None:
    """Switches to ``AmpOptimWrapper``.

    Args:
        cfg: The config, changed in place.

    Raises:
        UserError: Without a GPU, or for an optimizer wrapper that cannot be exchanged.
    """
    if not torch.cuda.is_available():
        raise UserError('--amp needs a GPU (AmpOptimWrapper refuses the CPU): leave it out')
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise UserError(f'--amp exchanges OptimWrapper, but optim_wrapper.type is {kind!r}')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def set_auto_scale_lr(cfg: Config) -> None:
    """Enables the scaling of the learning rate with the batch size.

    Args:
        cfg: The config, changed in place.

    Raises:
        UserError: If the config does not say which batch size its rate is made for.
    """
    if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
        raise UserError(
            '--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in the config'
        )
    cfg.auto_scale_lr.enable = True


def join_ranks(cfg: Config, launcher: str) -> None:
    """Sets the launcher, and on machines without GPUs makes the group of ranks (gloo).

    mmengine selects a GPU while it makes the group, and wraps the model for one; without
    GPUs both have to be done before.

    Args:
        cfg: The config, changed in place.
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``.

    Raises:
        UserError: If the launcher's variables are missing.
    """
    cfg.launcher = launcher
    if launcher == 'none' or torch.cuda.is_available():
        return
    env = os.environ
    names = _RANK_VARIABLES.get(launcher, ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'))
    missing = [name for name in names if name not in env]
    if missing:
        starter = dict(pytorch='tools/dist_train.sh', slurm='tools/slurm_train.sh', mpi='mpirun')
        raise UserError(
            f'--launcher {launcher}: {", ".join(missing)} not set; start through '
            f'{starter[launcher]}'
        )
    env['RANK'], env['WORLD_SIZE'], env['LOCAL_RANK'] = (env[name] for name in names)
    if launcher == 'slurm' and 'MASTER_ADDR' not in env:
        listed = subprocess.run(
            ['scontrol', 'show', 'hostnames', env['SLURM_NODELIST']],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        env['MASTER_ADDR'] = listed.stdout.split()[0]
    env.setdefault('MASTER_ADDR', '127.0.0.1')
    env.setdefault('MASTER_PORT', '29500')
    seconds = ((cfg.get('env_cfg') or {}).get('dist_cfg') or {}).get('timeout', 1800)
    torch_dist.init_process_group('gloo', timeout=timedelta(seconds=seconds))
    wrapper = dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    cfg.model_wrapper_cfg = {**(cfg.get('model_wrapper_cfg') or wrapper), 'device_ids': None}


def leave_ranks() -> None:
    """Takes the group of ranks down, where there is one."""
    if torch_dist.is_available() and torch_dist.is_initialized():
        torch_dist.destroy_process_group()
