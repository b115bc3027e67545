"""Epochs whose batches are worked on in parts, for less memory and the same step."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mmdistill.core.errors import UserError
from mmdistill.core.loops.epoch_train_loop import EpochTrainLoop
from mmkd.language.seq2seq_batches import split_rows
from mmkd.language.seq2seq_student import step_weight
from mmkd.loops.restart import configs_of
from mmkd.loops.staged import accumulated_step, count_targets
from mmkd.registry import LOOPS


def targets_of(parts: list[dict[str, Any]]) -> float:
    """What the loss of a step is divided by: tokens or their weights in its parts, on all ranks."""
    if 'doc_ids' in parts[0]:
        return count_targets(parts)
    labels = torch.cat([each['labels'].flatten() for each in parts])
    weighted = 'weights' in parts[0]
    weights = torch.cat([each['weights'].flatten() for each in parts]) if weighted else None
    return step_weight(labels, weights)


@LOOPS.register_module()
class AccumulatingEpochLoop(EpochTrainLoop):
    """:class:`~mmdistill.core.loops.epoch_train_loop.EpochTrainLoop` with batches in parts.

    An iteration is one step of the optimizer on one batch of the loader, whose rows go through the
    model in ``accumulate`` parts. The loss is the mean over all targets of the step, on all ranks,
    so that the gradient is that of the whole batch.

    Args:
        runner: the runner.
        dataloader: whose ``batch_size`` is that of a step on a rank.
        max_epochs: number of epochs.
        accumulate: parts of a batch.
        **settings: ``val_begin``, ``val_interval``, ``dynamic_intervals``.

    Raises:
        UserError: a batch size that is no multiple of the parts, or another one in the sampler.
    """

    def __init__(
        self, runner: Any, dataloader: Any, max_epochs: int, accumulate: int = 1, **settings: Any
    ) -> None:
        super().__init__(runner, dataloader, max_epochs, **settings)
        batches = self.dataloader.batch_sampler
        size = batches.batch_size
        if accumulate < 1 or size % accumulate:
            raise UserError(f'accumulate={accumulate}: the batch_size {size} is no multiple of it')
        own = getattr(batches.sampler, 'batch_size', size)
        if own != size:
            raise UserError(
                f'batch_size is {own} in the {type(batches.sampler).__name__} and {size} in the '
                'data loader: give both the same'
            )
        wrapper, _ = configs_of(runner, type(self).__name__)
        runner.optim_wrapper = dict(wrapper, accumulative_counts=accumulate)
        self.accumulate = accumulate

    def run(self) -> nn.Module:
        """Trains to the end; returns the model."""
        parts = self.accumulate
        self.runner.optim_wrapper.initialize_count_status(
            self.runner.model, self._iter * parts, self._max_iters * parts
        )
        return super().run()

    def step(self, data_batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Forward and backward of each part and one update."""
        parts = split_rows(data_batch, self.accumulate)
        share = dict(global_tokens=targets_of(parts), accumulate=self.accumulate)
        return accumulated_step(self.runner, [dict(each, **share) for each in parts])
