"""A training of two phases in one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmdistill.core.errors import UserError
from mmdistill.core.loops.iter_train_loop import IterTrainLoop
from mmkd.loops.restart import configs_of, restart, same_types, with_optimizer
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
        wrapper, given = configs_of(runner, 'TwoStepTrainLoop')
        if not same_types(given, second_scheduler):
            raise UserError(
                'second_scheduler must have the types of param_scheduler, '
                f'{[each["type"] for each in given]}, so that a checkpoint fits both phases; got '
                f'{[each["type"] for each in second_scheduler]}'
            )
        self.first_iters = first_iters
        self.second_scheduler = [dict(each) for each in second_scheduler]
        self.wrapper = with_optimizer(wrapper, optimizer)

    def run_iter(self, data_batch: Any) -> None:
        """One iteration; the first one of the second phase begins it."""
        if self._iter == self.first_iters:
            restart(self.runner, self.wrapper, self.second_scheduler)
            self.runner.logger.info(f'second phase from iteration {self._iter} on')
        super().run_iter(data_batch)
