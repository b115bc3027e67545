"""A training of two phases in one run."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from mmdistill.core.errors import UserError
from mmdistill.core.loops.iter_train_loop import IterTrainLoop
from mmkd.registry import LOOPS


@LOOPS.register_module()
class TwoStepTrainLoop(IterTrainLoop):
    """Begins anew with optimizer and schedule when the first phase ends; weights go on.

    A checkpoint of either phase resumes exactly. Iterations count over both phases.

    Args:
        runner: the runner.
        dataloader: see :class:`IterTrainLoop`.
        max_iters: of both phases together.
        first_iters: of the first phase.
        second_scheduler: ``param_scheduler`` of the second phase, whose ``begin`` and ``end`` count
            from its start; as many as in the config's own, and of the same types.
        optimizer: keys of ``optim_wrapper.optimizer`` that are others in the second phase.
        **settings: see :class:`IterTrainLoop`.

    Raises:
        UserError: a first phase that does not end within the training, other schedulers, or an
            optimizer that is built already.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        max_iters: int,
        first_iters: int,
        second_scheduler: Sequence[Mapping[str, Any]] = (),
        optimizer: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(runner, dataloader, max_iters, **settings)
        if not 0 <= first_iters < max_iters:
            raise UserError(
                f'first_iters must be at least 0 and below max_iters={max_iters}, got {first_iters}'
            )
        # the runner builds them after its loop: here they still are configs
        given, wrapper = runner.param_schedulers or [], runner.optim_wrapper
        given = [given] if isinstance(given, Mapping) else list(given)
        if not isinstance(wrapper, Mapping) or not all(isinstance(e, Mapping) for e in given):
            raise UserError(
                'TwoStepTrainLoop builds a second optimizer: give optim_wrapper and '
                'param_scheduler as configs'
            )
        types = [[each['type'] for each in some] for some in (given, second_scheduler)]
        if types[0] != types[1]:
            raise UserError(
                f'second_scheduler must have the types of param_scheduler, {types[0]}, so that a '
                f'checkpoint fits both phases; got {types[1]}'
            )
        self.first_iters = first_iters
        self.second_scheduler = [dict(each) for each in second_scheduler]
        self.wrapper = copy.deepcopy(dict(wrapper))
        self.wrapper['optimizer'] = {**self.wrapper['optimizer'], **(optimizer or {})}

    def run_iter(self, data_batch: Any) -> None:
        """One iteration; the first one of the second phase begins it."""
        if self._iter == self.first_iters:
            self._begin_second()
        super().run_iter(data_batch)

    def _begin_second(self) -> None:
        """Fresh moments and a fresh warm-up."""
        runner = self.runner
        runner.optim_wrapper = runner.build_optim_wrapper(self.wrapper)
        if self.second_scheduler:
            runner.param_schedulers = runner.build_param_scheduler(self.second_scheduler)
        runner.logger.info(f'second phase from iteration {self._iter} on')
