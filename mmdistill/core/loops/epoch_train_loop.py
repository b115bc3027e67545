"""Training by epochs that resumes exactly, also within an epoch."""

import bisect
from typing import Any

import torch
from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data import DataLoader

from mmdistill.core.hooks.teacher_update import stepping_model, tell_position
from mmdistill.core.positioned_data import positioned_loader
from mmdistill.registry import LOOPS


@LOOPS.register_module()
class EpochTrainLoop(EpochBasedTrainLoop):
    """mmengine's ``EpochBasedTrainLoop`` that goes on at any iteration of an epoch.

    Random transforms depend on (seed, epoch, position) alone, see :mod:`positioned_data`, with
    persistent workers too. A validation that was due is made up for on resume.

    Args:
        runner: The runner.
        dataloader: A ``DataLoader`` over a map-style dataset, or its config.
        max_epochs: Number of epochs.
        val_begin: First epoch after which validation may run.
        val_interval: Epochs between validations.
        dynamic_intervals: Pairs (milestone, interval) that change ``val_interval``.
    """

    def __init__(
        self,
        runner,
        dataloader: DataLoader | dict,
        max_epochs: int,
        val_begin: int = 1,
        val_interval: int = 1,
        dynamic_intervals: list[tuple[int, int]] | None = None,
    ) -> None:
        super().__init__(runner, dataloader, max_epochs, val_begin, val_interval, dynamic_intervals)
        self.dataloader = positioned_loader(self.dataloader, runner.seed, infinite=False)
        self.val_pending = False

    def run(self) -> torch.nn.Module:
        """Trains up to ``max_epochs``.

        Returns:
            The trained model.
        """
        self.runner.call_hook('before_train')
        if self._iter == self._epoch * len(self.dataloader):
            self.runner.call_hook('restore_generators')
        if self.val_pending:
            self._validate()
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._decide_current_val_interval()
            if self.val_pending:
                self._validate()
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self) -> None:
        """Trains the rest of the present epoch."""
        runner, batches = self.runner, self.dataloader.batch_sampler
        done = self._iter - self._epoch * len(self.dataloader)
        runner.call_hook('before_train_epoch')
        runner.model.train()
        batches.set_epoch(self._epoch)
        batches.seek(done, seed=runner.seed)
        iterator = iter(self.dataloader)
        if done:
            runner.call_hook('restore_generators')
        for index, batch in enumerate(iterator, start=done):
            self.run_iter(index, batch)
        self.val_pending = self._val_is_due(self._epoch + 1)
        runner.call_hook('after_train_epoch')
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """One iteration; a student-teacher model learns which one it is."""
        runner = self.runner
        tell_position(runner)
        runner.call_hook('before_train_iter', batch_idx=idx, data_batch=data_batch)
        outputs = self.step(data_batch)
        runner.call_hook('after_train_iter', batch_idx=idx, data_batch=data_batch, outputs=outputs)
        self._iter += 1

    def step(self, data_batch: Any) -> dict[str, torch.Tensor]:
        """Forward, backward and update of one batch; the losses for the log."""
        return stepping_model(self.runner).train_step(data_batch, self.runner.optim_wrapper)

    def _validate(self) -> None:
        """Runs the validation that is due."""
        self.runner.val_loop.run()
        self.val_pending = False

    def _val_is_due(self, done: int) -> bool:
        """Tells whether a validation follows the epoch that makes ``done`` epochs."""
        if self.runner.val_loop is None or done < self.val_begin:
            return False
        interval = self.dynamic_intervals[bisect.bisect(self.dynamic_milestones, done + 1) - 1]
        return done % interval == 0 or done == self._max_epochs
