"""Training with held-out batches beside the others, every few iterations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from mmdistill.core.errors import UserError
from mmdistill.core.hooks.teacher_update import bare_model
from mmdistill.core.loops.iter_train_loop import IterTrainLoop
from mmdistill.core.positioned_data import positioned_loader
from mmdistill.core.rng import stable_seed
from mmkd.datasets.subsets import SplitDataset
from mmkd.registry import LOOPS


@LOOPS.register_module()
class MetaTrainLoop(IterTrainLoop):
    """Gives the model ``dict(train=batch, meta=batch or None)``.

    From ``meta_begin`` on the last of every ``meta_interval`` iterations has a held-out batch, so N
    iterations have ``(N - meta_begin) // meta_interval``. Which batch that is, is a function of
    the iteration: a checkpoint needs nothing of it to resume exactly.

    Args:
        runner: the runner.
        dataloader: see :class:`IterTrainLoop`.
        max_iters: see :class:`IterTrainLoop`.
        meta_dataloader: of held-out samples; None: the training batch itself.
        meta_interval: iterations per step of what is learned by held-out samples.
        meta_begin: iterations before; until then the model's weights are constant.
        **settings: see :class:`IterTrainLoop`.

    Raises:
        UserError: no interval, an empty held-out part, or one that shares samples with training.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        max_iters: int,
        meta_dataloader: DataLoader | Mapping[str, Any] | None = None,
        meta_interval: int = 5,
        meta_begin: int = 0,
        **settings: Any,
    ) -> None:
        super().__init__(runner, dataloader, max_iters, **settings)
        if meta_interval < 1 or meta_begin < 0:
            raise UserError(
                'meta_interval must be at least 1 and meta_begin at least 0, got '
                f'{meta_interval} and {meta_begin}'
            )
        self.meta_interval, self.meta_begin = meta_interval, meta_begin
        self.meta_dataloader: DataLoader | None = None
        self._held_out: Iterator[Any] | None = None
        if meta_dataloader is not None:
            if isinstance(meta_dataloader, Mapping):
                meta_dataloader = runner.build_dataloader(dict(meta_dataloader), seed=runner.seed)
            if len(meta_dataloader.dataset) == 0:
                raise UserError('meta_dataloader has no samples: raise the share of held-out ones')
            check_disjoint(self.dataloader.dataset, meta_dataloader.dataset)
            seed = stable_seed(runner.seed, 1)
            self.meta_dataloader = positioned_loader(meta_dataloader, seed, infinite=True)

    def meta_steps(self, iterations: int) -> int:
        """Held-out batches within the first iterations."""
        return max(0, iterations - self.meta_begin) // self.meta_interval

    def run(self) -> torch.nn.Module:
        """Trains up to ``max_iters``; see :class:`IterTrainLoop`."""
        try:
            return super().run()
        finally:
            self._held_out = None

    def run_iter(self, data_batch: Any) -> None:
        """One iteration, with a held-out batch where one is due."""
        due = self.meta_steps(self._iter + 1) > self.meta_steps(self._iter)
        bare_model(self.runner).weighing = self._iter >= self.meta_begin
        meta = None
        if due:
            meta = data_batch if self.meta_dataloader is None else self._next_held_out()
        super().run_iter(dict(train=data_batch, meta=meta))

    def _next_held_out(self) -> Any:
        """The held-out batch of this iteration."""
        if self._held_out is None:
            seed = stable_seed(self.runner.seed, 1)
            self.meta_dataloader.batch_sampler.seek(self.meta_steps(self._iter), seed=seed)
            self._held_out = iter(self.meta_dataloader)
        return next(self._held_out)


def _split_of(dataset: Any) -> SplitDataset | None:
    """The part of a split that a data set wraps, or None."""
    while dataset is not None and not isinstance(dataset, SplitDataset):
        dataset = getattr(dataset, 'dataset', None)
    return dataset


def _innermost(dataset: Any) -> Any:
    """The data set that all wrappers read."""
    while hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    return dataset


def check_disjoint(train: Dataset, meta: Dataset) -> None:
    """Refuses parts of one data set that share samples.

    Args:
        train: what the student learns from.
        meta: what the weights are learned by.

    Raises:
        UserError: they do.
    """
    mine, theirs = _split_of(train), _split_of(meta)
    if theirs is not None and mine is None:
        sources = [_innermost(train), _innermost(meta)]
        if type(sources[0]) is type(sources[1]) and len(sources[0]) == len(sources[1]):
            raise UserError(
                'train_dataloader has all samples, those of meta_dataloader included: give it '
                "SplitDataset with the same share and seed, part='train'"
            )
    if mine is None or theirs is None or len(mine.dataset) != len(theirs.dataset):
        return
    shared = set(map(int, mine.indices)) & set(map(int, theirs.indices))
    if shared:
        raise UserError(
            f'{len(shared)} samples are in train_dataloader and in meta_dataloader: give both '
            "SplitDataset the same share and seed, part='train' and part='meta'"
        )
