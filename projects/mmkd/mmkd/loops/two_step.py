"""A training of two phases in one run."""

from __future__ import annotations

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
        UserError: a first phase that does not end within the training, or other schedulers.
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
        given = runner.cfg.get('param_scheduler') or []
        given = [given] if isinstance(given, Mapping) else list(given)
        types = [[each['type'] for each in some] for some in (given, second_scheduler)]
        if types[0] != types[1]:
            raise UserError(
                f'second_scheduler must have the types of param_scheduler, {types[0]}, so that a '
                f'checkpoint fits both phases; got {types[1]}'
            )
        self.first_iters = first_iters
        self.second_scheduler = [dict(each) for each in second_scheduler]
        self.optimizer = dict(optimizer or {})

    def run_iter(self, data_batch: Any) -> None:
        """One iteration; the first one of the second phase begins it."""
        if self._iter == self.first_iters:
            self._begin_second()
        super().run_iter(data_batch)

    def _begin_second(self) -> None:
        """Fresh moments and a fresh warm-up."""
        runner = self.runner
        wrapper = dict(runner.cfg.optim_wrapper)
        wrapper['optimizer'] = {**wrapper['optimizer'], **self.optimizer}
        runner.optim_wrapper = runner.build_optim_wrapper(wrapper)
        if self.second_scheduler:
            runner.param_schedulers = runner.build_param_scheduler(self.second_scheduler)
        runner.logger.info(f'second phase from iteration {self._iter} on')
