"""Training by iterations that resumes at its position instead of replaying the data."""

import bisect
from typing import Any

import torch
from mmengine.runner import BaseLoop, IterBasedTrainLoop
from mmengine.runner.utils import calc_dynamic_intervals
from torch.utils.data import DataLoader

from mmdistill.core.hooks.teacher_update import stepping_model, tell_position
from mmdistill.core.positioned_data import positioned_loader
from mmdistill.registry import LOOPS


@LOOPS.register_module()
class IterTrainLoop(IterBasedTrainLoop):
    """mmengine's ``IterBasedTrainLoop`` with an exact and quick resume.

    * On resume the sampler goes on where it was: ``sampler.skip`` when it is infinite and
      has one, else its indices (not its samples) are passed over.
    * Random transforms depend on (seed, position) alone, see :mod:`positioned_data`.
    * A finite sampler goes through its epochs without restarting the workers.
    * A validation that was due when the checkpoint was written is made up for.

    ``restore_generators`` is called on all hooks when everything is in place, just
    before the first batch is asked for; ``SafeCheckpointHook`` has one.

    Args:
        runner: The runner.
        dataloader: A ``DataLoader`` over a map-style dataset, or its config.
        max_iters: Total number of training iterations.
        val_begin: First iteration after which validation may run.
        val_interval: Iterations between validations.
        dynamic_intervals: Pairs (milestone, interval) that change ``val_interval``.

    Attributes:
        batches_per_iter: Batches of the loader that an iteration takes; a loop that takes several
            sets it and overrides ``fetch`` and ``step``.
    """

    batches_per_iter = 1

    def __init__(
        self,
        runner,
        dataloader: DataLoader | dict,
        max_iters: int,
        val_begin: int = 1,
        val_interval: int = 1000,
        dynamic_intervals: list[tuple[int, int]] | None = None,
    ) -> None:
        # not IterBasedTrainLoop.__init__: it starts the workers before the position is known
        BaseLoop.__init__(self, runner, dataloader)
        if int(max_iters) != max_iters:
            raise ValueError(f'max_iters must be a whole number, got {max_iters}')
        self.dataloader = positioned_loader(self.dataloader, runner.seed, infinite=True)
        self._max_iters, self._max_epochs = int(max_iters), 1
        self._epoch = self._iter = 0
        self.val_begin, self.val_interval = val_begin, val_interval
        self.stop_training = False
        self.val_pending = False
        self.dynamic_milestones, self.dynamic_intervals = calc_dynamic_intervals(
            val_interval, dynamic_intervals
        )
        if hasattr(self.dataloader.dataset, 'metainfo'):
            runner.visualizer.dataset_meta = self.dataloader.dataset.metainfo

    def run(self) -> torch.nn.Module:
        """Trains up to ``max_iters``.

        Returns:
            The trained model.
        """
        runner = self.runner
        runner.call_hook('before_train')
        runner.call_hook('before_train_epoch')
        self.dataloader.batch_sampler.seek(self._iter * self.batches_per_iter, seed=runner.seed)
        self.dataloader_iterator = iter(self.dataloader)
        try:
            self._train()
        finally:  # ends the workers now; left to the garbage collector they take 5 s each
            self.dataloader_iterator = None
        runner.call_hook('after_train_epoch')
        runner.call_hook('after_train')
        return runner.model

    def _train(self) -> None:
        """Goes through the iterations that are left."""
        runner = self.runner
        runner.call_hook('restore_generators')
        if self.val_pending:
            self._validate()
        while self._iter < self._max_iters and not self.stop_training:
            runner.model.train()
            batch = self.fetch()
            self.val_pending = self._val_is_due(self._iter + 1)
            self.run_iter(batch)
            self._decide_current_val_interval()
            if self.val_pending:
                self._validate()

    def fetch(self) -> Any:
        """What the next iteration works on."""
        return next(self.dataloader_iterator)

    def step(self, data_batch: Any) -> dict[str, torch.Tensor]:
        """Forward, backward and update; returns what is logged."""
        return stepping_model(self.runner).train_step(data_batch, self.runner.optim_wrapper)

    def run_iter(self, data_batch: Any) -> None:
        """One iteration; a student-teacher model learns which one it is."""
        runner, index = self.runner, self._iter
        tell_position(runner)
        runner.call_hook('before_train_iter', batch_idx=index, data_batch=data_batch)
        outputs = self.step(data_batch)
        runner.call_hook(
            'after_train_iter', batch_idx=index, data_batch=data_batch, outputs=outputs
        )
        self._iter += 1

    def _validate(self) -> None:
        """Runs the validation that is due."""
        self.runner.val_loop.run()
        self.val_pending = False

    def _val_is_due(self, done: int) -> bool:
        """Tells whether a validation follows the iteration that makes ``done`` iterations."""
        if self.runner.val_loop is None or done < self.val_begin:
            return False
        interval = self.dynamic_intervals[bisect.bisect(self.dynamic_milestones, done + 1) - 1]
        return done % interval == 0 or done == self._max_iters
