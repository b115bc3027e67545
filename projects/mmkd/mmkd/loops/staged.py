"""A curriculum of stages in one run: first one teacher's traces, then another's.

Orca (arXiv:2306.02707) trains on the traces of an intermediate teacher and then on those of a
strong one, some epochs each. Whether optimizer and schedule begin anew in between is not known;
that they do is our completion, and a switch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate as running_sum
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor

from mmdistill.core.errors import UserError
from mmdistill.core.hooks.teacher_update import stepping_model
from mmdistill.core.loops.iter_train_loop import IterTrainLoop
from mmkd.language.lm_loss import response_tokens
from mmkd.loops.restart import configs_of, restart, same_types, with_optimizer
from mmkd.registry import LOOPS

STAGE_KEYS = ('name', 'optimizer', 'param_scheduler', 'reset_optimizer', 'reset_scheduler')


def within(schedulers: Sequence[Mapping[str, Any]], iters: int) -> list[dict[str, Any]]:
    """Schedules of a stage in iterations.

    Args:
        schedulers: configs; a ``begin``, ``end`` or ``T_max`` that is a float is a share of the
            stage, so that a schedule can be written before the number of packs is known. One
            that ends by a share lasts two iterations at least: a warm-up of one never ends.
        iters: of the stage.
    """
    found = []
    for each in schedulers:
        config = dict(each, by_epoch=False)
        for key in ('begin', 'end', 'T_max'):
            if isinstance(config.get(key), float):
                config[key] = round(config[key] * iters)
                if key == 'end':
                    config[key] = max(config[key], config.get('begin', 0) + 2)
        found.append(config)
    return found


def accumulated_step(runner: Any, batches: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """Forward and backward of each batch and one update.

    Args:
        runner: whose optimizer counts as many batches as one step.
        batches: of the step.

    Returns:
        For the log: the mean of what is a loss, and sums of what is counted.
    """
    model, wrapper = stepping_model(runner), runner.optim_wrapper
    found = [model.train_step(each, wrapper) for each in batches]
    logged = {}
    for key in found[0]:
        values = torch.stack([each[key].detach() for each in found])
        logged[key] = values.mean() if 'loss' in key else values.sum()
    return logged


def count_targets(batches: Sequence[Mapping[str, Tensor]]) -> int:
    """Tokens that are learned from in some batches, on all ranks."""
    counts = [response_tokens(each['labels'], each.get('doc_ids')) for each in batches]
    total = torch.stack(counts).sum()
    all_reduce(total)
    return int(total)


@LOOPS.register_module()
class StagedTrainLoop(IterTrainLoop):
    """Goes through the stages of a :class:`mmkd.language.curriculum.Curriculum`.

    An iteration is one step of the optimizer on ``accumulate`` batches. The loss is the mean over
    all tokens that the step learns from, on all ranks (batches have ``global_tokens``). A stage
    begins at an exact iteration; a checkpoint resumes in any stage, without reading a sample twice.

    Args:
        runner: the runner; its ``param_scheduler`` is that of stages without their own.
        dataloader: see :class:`IterTrainLoop`; its dataset knows ``names`` and ``sizes`` of the
            stages, in samples on all ranks, and is read in order.
        stages: a mapping per stage: ``name``; ``optimizer``, keys of ``optim_wrapper.optimizer``
            that are others in it; ``param_scheduler``, see :func:`within`; ``reset_optimizer``,
            False: moments go on from the stage before; ``reset_scheduler``, False: rates and their
            schedule do. None: all stages as ``optim_wrapper`` and ``param_scheduler`` say.
        accumulate: batches per step.
        **settings: ``val_begin``, ``val_interval``, ``dynamic_intervals``.

    Raises:
        UserError: other names than the dataset's, unknown keys, a stage that is no whole number of
            steps, or schedules of other types than those of the first stage.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        stages: Sequence[Mapping[str, Any]] | None = None,
        accumulate: int = 1,
        **settings: Any,
    ) -> None:
        if accumulate < 1:
            raise UserError(f'accumulate must be at least 1, got {accumulate}')
        super().__init__(runner, dataloader, max_iters=1, **settings)
        dataset = self.dataloader.dataset
        per_step = self.dataloader.batch_sampler.batch_size * get_world_size() * accumulate
        for name, size in zip(dataset.names, dataset.sizes, strict=True):
            if size % per_step:
                raise UserError(
                    f'stage {name!r} has {size} samples, no multiple of {per_step}: give the '
                    'dataset the batch_size of the loader and the accumulate of the loop'
                )
        self.batches_per_iter = accumulate
        self.names = list(dataset.names)
        iters = [size // per_step for size in dataset.sizes]
        self._max_iters = sum(iters)
        self.begins = [0, *running_sum(iters)][:-1]
        stages = [dict(name=name) for name in self.names] if stages is None else stages
        self._check(stages)
        wrapper, given = configs_of(runner, type(self).__name__)
        wrapper['accumulative_counts'] = accumulate
        self.stages = [
            (
                with_optimizer(wrapper, each.get('optimizer')),
                within(each.get('param_scheduler', given), count),
            )
            for each, count in zip(stages, iters, strict=True)
        ]
        for name, (_, schedulers) in zip(self.names, self.stages, strict=True):
            if not same_types(self.stages[0][1], schedulers):
                raise UserError(
                    f'stage {name!r}: its param_scheduler must have the types of the first '
                    "stage's, so that a checkpoint fits all stages"
                )
        self._resets = [
            (each.get('reset_optimizer', True), each.get('reset_scheduler', True))
            for each in stages
        ]
        # the runner builds them after its loop
        runner.optim_wrapper, runner.param_schedulers = self.stages[0]

    def _check(self, stages: Sequence[Mapping[str, Any]]) -> None:
        """Names and keys."""
        for each in stages:
            unknown = set(each) - set(STAGE_KEYS)
            if unknown:
                raise UserError(
                    f'stage {each.get("name")!r}: {sorted(unknown)} is none of '
                    f'{", ".join(STAGE_KEYS)}'
                )
            if 'optimizer' in each and not each.get('reset_scheduler', True):
                raise UserError(
                    f'stage {each["name"]!r}: its optimizer needs reset_scheduler=True, else rates '
                    'go on from the stage before'
                )
        names = [each.get('name') for each in stages]
        if names != self.names:
            raise UserError(f'stages are named {names}, those of the dataset {self.names}')

    @property
    def stage(self) -> int:
        """Number of the stage that the next iteration belongs to."""
        return sum(begin <= self._iter for begin in self.begins) - 1

    def run(self) -> torch.nn.Module:
        """Trains to the end of the last stage; returns the model."""
        self._count_batches()
        return super().run()

    def _count_batches(self) -> None:
        """The wrapper counts batches, not steps."""
        per = self.batches_per_iter
        self.runner.optim_wrapper.initialize_count_status(
            self.runner.model, self._iter * per, self._max_iters * per
        )

    def fetch(self) -> list[dict[str, Any]]:
        """The batches of a step; each knows of how many tokens and batches it is a part."""
        batches = [next(self.dataloader_iterator) for _ in range(self.batches_per_iter)]
        total = count_targets(batches)
        share = dict(global_tokens=total, accumulate=self.batches_per_iter)
        return [dict(each, **share) for each in batches]

    def run_iter(self, data_batch: list[dict[str, Any]]) -> None:
        """One step; the first one of a stage begins it."""
        if self._iter and self._iter in self.begins:
            self._begin(self.begins.index(self._iter))
        super().run_iter(data_batch)

    def _begin(self, number: int) -> None:
        """Optimizer and schedule of a stage."""
        optimizer, schedule = self._resets[number]
        if schedule:
            restart(self.runner, *self.stages[number], keep_moments=not optimizer)
        elif optimizer:
            self.runner.optim_wrapper.optimizer.state.clear()
        self._count_batches()
        self.runner.logger.info(f'stage {self.names[number]!r} from iteration {self._iter} on')

    def step(self, data_batch: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Forward and backward of each batch and one update."""
        return accumulated_step(self.runner, data_batch)
