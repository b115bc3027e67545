"""Runs trainings in this process, and reads from a checkpoint what a resume has to reproduce."""

import itertools
import os
from pathlib import Path
from typing import Any

from mmengine.runner import Runner

from mmdistill.core.compat import safe_load

_PARTS = ('state_dict', 'optimizer', 'param_schedulers', 'mmdistill')
_count = itertools.count()


def run(cfg: dict[str, Any]) -> int:
    """Trains.

    Args:
        cfg: A config for ``Runner.from_cfg``.

    Returns:
        0, or the status of the ``SystemExit`` that ended the training.
    """
    name = f'run{os.getpid()}_{next(_count)}'  # mmengine shares logs between equal names
    try:
        Runner.from_cfg(dict(cfg, experiment_name=name)).train()
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
