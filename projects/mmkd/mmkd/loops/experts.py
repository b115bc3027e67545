"""Training of many experts whose trajectories are kept."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import barrier, get_rank
from mmengine.runner import BaseLoop
from mmengine.utils import import_modules_from_strings

from mmdistill.core.errors import UserError
from mmkd.datasets.prepared import PreparedImages
from mmkd.experts.running import run_experts
from mmkd.experts.store import TrajectoryStore
from mmkd.experts.training import ExpertRecipe
from mmkd.registry import DATASETS, LOOPS

MODES = ('loop', 'vmap')


@LOOPS.register_module()
class ExpertTrainLoop(BaseLoop):
    """Trains experts into a :class:`TrajectoryStore`, ``WORK_DIR/trajectories``.

    Any number of processes may work on one store: ranks of a launcher, ``processes`` of this loop,
    jobs of a slurm array. Each takes what is neither finished nor taken. A process that is killed
    loses at most an epoch (with momentum or ``'vmap'``: the experts it was at); the same command
    goes on.

    The model's ``network``, the batch size of the loader and the optimizer of the config (``SGD``
    with ``lr``, ``momentum``, ``weight_decay``) are those of the experts.

    Args:
        runner: the runner.
        dataloader: of a :class:`PreparedImages`; only its data set and batch size are used.
        experts: number K.
        epochs: of each, E.
        rho: see :class:`ExpertRecipe`.
        alpha: see :class:`ExpertRecipe`.
        adaptive: see :class:`ExpertRecipe`.
        augment: see :class:`ExpertRecipe`.
        mode: ``'loop'``, or ``'vmap'``: several experts at once, which is quicker for tiny networks
            on a GPU and slower on a CPU.
        together: experts at once with ``'vmap'``.
        processes: on this machine; each has its share of the threads.
        held_out: config of a data set that the last snapshot of every expert is scored on.
        folder: of the store; None: ``trajectories`` in the work directory.

    Raises:
        UserError: another optimizer than SGD, other data, or an unknown mode.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        experts: int,
        epochs: int,
        rho: float = 0.0,
        alpha: float = 0.0,
        adaptive: bool = True,
        augment: Mapping[str, Any] | None = None,
        mode: str = 'loop',
        together: int = 8,
        processes: int = 1,
        held_out: Mapping[str, Any] | None = None,
        folder: str | None = None,
    ) -> None:
        super().__init__(runner, dataloader)
        if mode not in MODES:
            raise UserError(f'mode {mode!r} is none of {", ".join(MODES)}')
        for name, value in dict(
            experts=experts, epochs=epochs, together=together, processes=processes
        ).items():
            if value < 1:
                raise UserError(f'{name} must be at least 1, got {value}')
        data = self.dataloader.dataset
        if not isinstance(data, PreparedImages):
            raise UserError(
                'train_dataloader of experts needs dataset=dict(type="mmkd.PreparedImages", '
                f'dataset=...), got {type(data).__name__}'
            )
        self.recipe = ExpertRecipe(
            network=dict(runner.cfg.model.network),
            epochs=epochs,
            batch_size=self.dataloader.batch_size,
            rho=rho,
            alpha=alpha,
            adaptive=adaptive,
            augment=augment,
            seed=runner.seed,
            **sgd_settings(runner.cfg.optim_wrapper.optimizer),
        )
        self.experts, self.mode = experts, mode
        self.together = together if mode == 'vmap' else 1
        self.processes = processes
        self.held_out = None if held_out is None else DATASETS.build(dict(held_out))
        self.folder = Path(folder or Path(runner.work_dir, 'trajectories'))
        self._max_iters = self._max_epochs = epochs
        self._epoch = self._iter = 0

    @property
    def max_iters(self) -> int:
        """Epochs of an expert."""
        return self._max_iters

    @property
    def max_epochs(self) -> int:
        """Epochs of an expert."""
        return self._max_epochs

    @property
    def iter(self) -> int:
        """Experts have no common position: 0."""
        return self._iter

    @property
    def epoch(self) -> int:
        """Experts have no common position: 0."""
        return self._epoch

    def run(self) -> torch.nn.Module:
        """Trains all experts that nobody else trains, and waits for the other ranks."""
        self.runner.call_hook('before_train')
        if self.processes > 1:
            self._in_processes()
        else:
            self._work(next(self.runner.model.parameters()).device)
        barrier()
        store = TrajectoryStore.open(self.folder)
        if get_rank() == 0:
            left = store.unfinished()
            self.runner.logger.info(
                f'{self.folder}: {len(store.finished())} of {self.experts} experts are finished'
                + (f'; other processes are at {left}' if left else '')
            )
        self.runner.call_hook('after_train')
        return self.runner.model

    def _work(self, device: torch.device | str) -> None:
        """Trains in this process."""
        data = self.dataloader.dataset
        run_experts(*self._job(data), device, self.runner.logger.info)

    def _job(self, data: PreparedImages) -> tuple:
        """What a process has to know."""
        return (self.recipe, data, self.held_out, self.folder, self.experts, self.together)

    def _in_processes(self) -> None:
        """Trains in several processes on this machine."""
        context = torch.multiprocessing.get_context('spawn')
        data = self.dataloader.dataset
        device = str(next(self.runner.model.parameters()).device)
        threads = max(1, (os.cpu_count() or 1) // self.processes)
        imports = self.runner.cfg.get('custom_imports') or {}
        job = (*self._job(data), device, threads, dict(imports))
        workers = [
            context.Process(target=_worker, args=job, daemon=True) for _ in range(self.processes)
        ]
        for each in workers:
            each.start()
        for each in workers:
            each.join()
        if codes := [each.exitcode for each in workers if each.exitcode]:
            raise UserError(
                f'{len(codes)} of {self.processes} processes ended with {codes}, see above; what '
                f'was finished is in {self.folder}, the same command goes on'
            )


def _worker(*job: Any) -> None:
    """One of several processes: its last arguments are its threads, and what it imports."""
    *job, threads, imports = job
    torch.set_num_threads(threads)
    if imports:
        import_modules_from_strings(**imports)
    run_experts(*job, say=print)


def sgd_settings(optimizer: Mapping[str, Any]) -> dict[str, float]:
    """Rate, momentum and weight decay of an optimizer's config.

    Raises:
        UserError: another optimizer, or settings that experts do not have.
    """
    given = dict(optimizer)
    kind = given.pop('type')
    known = ('lr', 'momentum', 'weight_decay')
    if kind != 'SGD' or (other := sorted(set(given) - set(known))):
        what = kind if kind != 'SGD' else f'SGD with {", ".join(other)}'
        raise UserError(f'experts are trained by SGD with {", ".join(known)}, got {what}')
    if 'lr' not in given:
        raise UserError('optim_wrapper.optimizer of experts needs lr')
    return given
