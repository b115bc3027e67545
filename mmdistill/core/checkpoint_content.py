"""What a checkpoint holds, in the layout of ``Runner.save_checkpoint`` of mmengine 0.10.

``Runner.save_checkpoint`` formats the whole config and asks git for a hash at each save,
and holds the file in memory twice; here the text is taken from the message hub.
"""

import functools
import time
from typing import Any

import mmengine
import torch
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner, weights_to_cpu
from mmengine.utils import apply_to, get_git_hash
from torch import nn


def plain_model(model: nn.Module) -> nn.Module:
    """Takes the wrapper for several ranks off a model.

    Args:
        model: Wrapped or not.

    Returns:
        The model itself.
    """
    return model.module if is_model_wrapper(model) else model


@functools.cache
def _mmengine_version() -> str:
    """Version as mmengine writes it into checkpoints."""
    return mmengine.__version__ + get_git_hash()


def _on_cpu(state: Any) -> Any:
    """The state with all tensors on the CPU."""
    return apply_to(state, lambda x: isinstance(x, torch.Tensor), lambda x: x.cpu())


def checkpoint_content(
    runner: Runner,
    iter: int,
    epoch: int,
    with_optimizer: bool,
    with_schedulers: bool,
    extra: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Collects a checkpoint, on rank 0, and lets all hooks have their say.

    Args:
        runner: The runner.
        iter: Finished iterations.
        epoch: Finished epochs.
        with_optimizer: Put the optimizer in.
        with_schedulers: Put the parameter schedulers in.
        extra: More entries.

    Returns:
        ``meta``, ``state_dict``, ``message_hub``, ``optimizer``, ``param_schedulers`` and
        what is extra.
    """
    hub = runner.message_hub
    meta = dict(
        epoch=epoch,
        iter=iter,
        cfg=hub.runtime_info.get('cfg') or runner.cfg.pretty_text,
        seed=runner.seed,
        experiment_name=runner.experiment_name,
        time=time.strftime('%Y%m%d_%H%M%S'),
        mmengine_version=_mmengine_version(),
    )
    if hasattr(runner.train_dataloader.dataset, 'metainfo'):
        meta['dataset_meta'] = runner.train_dataloader.dataset.metainfo
    content = dict(
        meta=meta,
        state_dict=weights_to_cpu(plain_model(runner.model).state_dict()),
        message_hub=_on_cpu(hub.state_dict()),
        **(extra or {}),
    )
    if with_optimizer:
        content['optimizer'] = _on_cpu(runner.optim_wrapper.state_dict())
    schedulers = runner.param_schedulers if with_schedulers else None
    if isinstance(schedulers, dict):
        content['param_schedulers'] = {
            name: [scheduler.state_dict() for scheduler in group]
            for name, group in schedulers.items()
        }
    elif schedulers is not None:
        content['param_schedulers'] = [scheduler.state_dict() for scheduler in schedulers]
    runner.call_hook('before_save_checkpoint', checkpoint=content)
    return content
