"""Refits thresholds on rank 0 and gives them to all ranks."""

from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from mmdistill.core.dist import broadcast_object, gather_objects, raise_together
from mmdistill.core.errors import UserError
from mmdistill.core.hooks.teacher_update import bare_model, require
from mmdistill.registry import HOOKS


@HOOKS.register_module()
class ThresholdRefreshHook(Hook):
    """Every ``interval``: ranks collect records, rank 0 refreshes, all ranks get its buffers.

    The model offers

    * ``collect_records(runner)``: a picklable list, this rank's share;
    * ``refresh(records)``: called on rank 0 with the records of all ranks;
    * ``refresh_buffers``: names of the submodules and buffers that ``refresh`` changes. They
      are sent to the other ranks; a submodule with ``contents()`` and ``replace(contents)``
      goes through these, another one through its state dict.

    Everything that ``refresh`` decides must lie in them, so that it is in the checkpoint and
    equal on all ranks. When a rank fails, all ranks stop with the reason.

    Args:
        interval: iterations (or epochs with ``by_epoch``) between two refreshes.
        by_epoch: count epochs instead of iterations; needs a loop with epochs.
        begin: first iteration or epoch with a refresh.

    Raises:
        UserError: an interval below 1 or a negative begin.
    """

    priority = 'NORMAL'

    def __init__(self, interval: int, by_epoch: bool = False, begin: int = 0) -> None:
        if interval < 1:
            raise UserError(f'interval must be at least 1, got {interval}')
        if begin < 0:
            raise UserError(f'begin must not be negative, got {begin}')
        self.interval, self.by_epoch, self.begin = interval, by_epoch, begin

    def due(self, position: int) -> bool:
        """True when a refresh belongs before iteration or epoch ``position``."""
        return position >= self.begin and (position - self.begin) % self.interval == 0

    def before_train(self, runner: Runner) -> None:
        """Looks whether the model fits."""
        require(runner, self, 'refresh', 'refresh_buffers')

    def before_train_epoch(self, runner: Runner) -> None:
        """Refreshes by epoch."""
        if self.by_epoch and self.due(runner.epoch):
            self.refresh(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Refreshes by iteration."""
        if not self.by_epoch and self.due(runner.iter):
            self.refresh(runner)

    def refresh(self, runner: Runner) -> None:
        """One refresh on all ranks."""
        model, records, error = bare_model(runner), None, None
        model.cur_iter = runner.iter  # whatever the order of the hooks
        try:
            records = self.collect_records(runner)
        except Exception as caught:
            error = caught
        raise_together(error, 'collecting records')
        gathered = gather_objects(records)
        if get_rank() == 0:
            try:
                model.refresh([record for part in gathered for record in part])
            except Exception as caught:
                error = caught
        raise_together(error, 'refreshing thresholds')
        for name in model.refresh_buffers:
            share(model, name)
        self.after_refresh(runner)

    def collect_records(self, runner: Runner) -> list[Any]:
        """Records of this rank."""
        return bare_model(runner).collect_records(runner)

    def after_refresh(self, runner: Runner) -> None:
        """Called on all ranks when thresholds are equal everywhere."""


def share(model: nn.Module, name: str) -> None:
    """Gives all ranks the submodule or buffer ``name`` of rank 0; it may change its shape.

    Raises:
        UserError: the model has nothing of that name.
    """
    owner, _, leaf = name.rpartition('.')
    target = model.get_submodule(owner) if owner else model
    target = getattr(target, leaf, None)
    if isinstance(target, Tensor):
        value = broadcast_object(target.detach().cpu())
        if value.shape != target.shape:
            target.resize_(value.shape)
        target.copy_(value)
    elif hasattr(target, 'contents'):
        target.replace(broadcast_object(target.contents()))
    elif isinstance(target, nn.Module):
        state = target.state_dict()
        cpu = {key: each.cpu() if torch.is_tensor(each) else each for key, each in state.items()}
        target.load_state_dict(broadcast_object(cpu))
    else:
        raise UserError(
            f'refresh_buffers names {name!r}, which is no submodule or buffer of '
            f'{type(model).__name__}'
        )
