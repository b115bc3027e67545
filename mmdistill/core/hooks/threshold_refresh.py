"""Refits thresholds on rank 0 and gives them to all ranks."""

from typing import Any

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmdistill.core.dist import broadcast_object, gather_objects
from mmdistill.core.hooks.teacher_update import bare_model
from mmdistill.registry import HOOKS


@HOOKS.register_module()
class ThresholdRefreshHook(Hook):
    """Every ``interval``: ranks collect records, rank 0 refreshes, all ranks get its buffers.

    The model offers ``collect_records(runner)`` (a picklable list per rank),
    ``refresh(records)`` and ``refresh_buffers`` (names of the submodules that ``refresh``
    changes); a submodule with ``contents()`` and ``replace()`` is sent through these.

    Args:
        interval: iterations (or epochs with ``by_epoch``) between two refreshes.
        by_epoch: count epochs instead of iterations.
        begin: first iteration or epoch with a refresh.
    """

    priority = 'NORMAL'

    def __init__(self, interval: int, by_epoch: bool = False, begin: int = 0) -> None:
        if interval < 1:
            raise ValueError(f'interval must be at least 1, got {interval}')
        self.interval, self.by_epoch, self.begin = interval, by_epoch, begin

    def due(self, position: int) -> bool:
        """True when a refresh belongs before iteration or epoch ``position``."""
        return position >= self.begin and (position - self.begin) % self.interval == 0

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
        model = bare_model(runner)
        gathered = gather_objects(self.collect_records(runner))
        if get_rank() == 0:
            model.refresh([record for records in gathered for record in records])
        for name in model.refresh_buffers:
            module = model.get_submodule(name)
            if hasattr(module, 'contents'):
                module.replace(broadcast_object(module.contents()))
            else:
                module.load_state_dict(broadcast_object(module.state_dict()))
        self.after_refresh(runner)

    def collect_records(self, runner: Runner) -> list[Any]:
        """Records of this rank."""
        return bare_model(runner).collect_records(runner)

    def after_refresh(self, runner: Runner) -> None:
        """Called on all ranks when thresholds are equal everywhere."""
