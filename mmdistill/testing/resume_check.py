"""Runs trainings in this process, and reads from a checkpoint what a resume has to reproduce."""

import copy
import inspect
import itertools
import multiprocessing
import os
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings

from mmdistill.core.compat import safe_load

_PARTS = ('state_dict', 'optimizer', 'param_schedulers', 'mmdistill')
_count = itertools.count()


def run(cfg: dict[str, Any], *hooks: Hook) -> int:
    """Trains.

    Args:
        cfg: A config for ``Runner.from_cfg``.
        *hooks: More hooks.

    Returns:
        0, or the status of the ``SystemExit`` that ended the training.
    """
    if cfg.get('custom_imports'):  # the fork server may have been started with other imports
        import_modules_from_strings(**cfg['custom_imports'])
    name = f'run{os.getpid()}_{next(_count)}'  # mmengine shares logs between equal names
    known = inspect.signature(Runner.__init__).parameters
    parts = copy.deepcopy({key: value for key, value in cfg.items() if key in known})
    rest = {key: value for key, value in cfg.items() if key not in known}
    parts.update(experiment_name=name, cfg=rest)  # mmengine formats cfg often, and slowly
    try:
        runner = Runner(**parts)
        for hook in hooks:
            runner.register_hook(hook)
        runner.train()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def training_state(path: str | os.PathLike) -> dict[str, Any]:
    """Reads what a resumed training must have in common with an unbroken one.

    Args:
        path: A checkpoint of ``SafeCheckpointHook``.

    Returns:
        Weights, optimizer, schedulers, generators, place in the data, history of all losses,
        rates and metrics. Times, paths and names of runs are left out.
    """
    checkpoint = safe_load(Path(path))
    scalars = checkpoint['message_hub']['log_scalars']
    history = {k: list(v.data[0]) for k, v in scalars.items() if 'time' not in k}
    state = {part: checkpoint[part] for part in _PARTS if part in checkpoint}
    info = checkpoint['message_hub']['runtime_info']
    best = {key: value for key, value in info.items() if key.startswith('best_score')}
    meta = {key: checkpoint['meta'][key] for key in ('epoch', 'iter', 'seed')}
    return dict(state, history=history, best=best, meta=meta)


def _child(cfg: dict[str, Any], environment: dict[str, str]) -> None:
    """Body of a child: its status is that of the training."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    os._exit(run(cfg))


def start_child(cfg: dict[str, Any], **environment: str) -> BaseProcess:
    """Trains in a process of its own, which may be killed.

    It comes from a fork server that has imported torch and mmengine, so that it starts soon.

    Args:
        cfg: A config for ``Runner.from_cfg``.
        **environment: Variables for the process, for instance ``MMDISTILL_FAULT``.

    Returns:
        The process; ``join()`` it, then ``exitcode`` is that of the training, or minus the
        number of the signal that ended it.
    """
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['torch', 'mmengine.runner', 'mmdistill.testing.noisy'])
    process = context.Process(target=_child, args=(cfg, environment))
    process.start()
    return process
