"""Samples whose random transforms are a pure function of (seed, position).

A worker process of a ``DataLoader`` has generators of its own that no checkpoint can
reach, and it works ahead of the training. So the position travels with the index: the
batch sampler yields ``(position, index)``, and the generators are seeded from the
position before the sample is made. The same samples come out with 0 or 8 workers, with
workers that persist or not, and after a resume.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from mmengine.dist import get_dist_info
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from mmdistill.core.errors import UserError
from mmdistill.core.rng import preserve_rng, seed_cpu, stable_seed
from mmdistill.core.samplers import RatioSampler


class PositionedFetch:
    """Makes the samples of a batch; torch's fetcher finds it as ``dataset.__getitems__``.

    Args:
        dataset: The dataset that makes one sample per index.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __call__(self, keys: Sequence[tuple[int, int] | int]) -> list[Any]:
        """Makes samples.

        Args:
            keys: ``(seed, index)`` pairs, or plain indices, which are made as usual.

        Returns:
            One sample per key, in order.
        """
        if not keys or not isinstance(keys[0], tuple):
            return [self.dataset[index] for index in keys]
        if get_worker_info() is not None:
            return [self._sample(*key) for key in keys]
        with preserve_rng():
            return [self._sample(*key) for key in keys]

    def _sample(self, seed: int, index: int) -> Any:
        seed_cpu(seed)
        return self.dataset[index]


class PositionedBatchSampler:
    """Wraps a batch sampler: knows where it is, starts anywhere, adds seeds to indices.

    Args:
        batch_sampler: Yields lists of indices; restarted when it is exhausted.
        seed: Key of the random transforms together with the position.
        infinite: Go on with the next epoch (``sampler.set_epoch``) instead of stopping.
    """

    def __init__(self, batch_sampler: Any, seed: int, infinite: bool) -> None:
        self.base = batch_sampler
        self.sampler = getattr(batch_sampler, 'sampler', None)
        self.batch_size = getattr(batch_sampler, 'batch_size', None)
        self.drop_last = getattr(batch_sampler, 'drop_last', False)
        self.seed = int(seed)
        self.infinite = infinite
        self.epoch = 0
        self._skip = 0
        self.rank, self.world_size = get_dist_info()

    def __len__(self) -> int:
        return len(self.base)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch that the next iteration belongs to (finite samplers)."""
        self.epoch = epoch

    def seek(self, batches: int, seed: int | None = None) -> None:
        """Lets the next iteration start behind some batches, without making any sample.

        Args:
            batches: Batches to leave out, counted from the start of the training
                (``infinite``) or of the epoch.
            seed: New seed of the transforms; None keeps the present one.
        """
        self._skip = int(batches)
        self.seed = self.seed if seed is None else int(seed)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        skip, self._skip = self._skip, 0
        epoch, batch = (0 if self.infinite else self.epoch), 0
        if skip and self.infinite and getattr(self.sampler, 'infinite', False):
            self.sampler.skip(skip * self.batch_size)
            batch = skip
        while True:
            self._announce(epoch)
            empty = True
            for indices in self.base:
                empty = False
                if batch >= skip:
                    yield [(self._key(epoch, batch, i), j) for i, j in enumerate(indices)]
                batch += 1
            if not self.infinite:
                return
            if empty:
                raise UserError(
                    'the training sampler yields no batch: the dataset is empty, or smaller '
                    'than batch_size with drop_last=True'
                )
            epoch += 1

    def _announce(self, epoch: int) -> None:
        """Tells the sampler the epoch, as DistSamplerSeedHook does."""
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(epoch)

    def _key(self, epoch: int, batch: int, slot: int) -> int:
        """Seed of one sample; the infinite form counts batches through."""
        epoch = -1 if self.infinite else epoch
        return stable_seed(self.seed, epoch, batch, slot, self.rank)


def _shielded_init(worker_id: int, init_fn: Callable[[int], None] | None) -> None:
    """Starts a worker that a signal to the whole job does not kill, but its parent can."""
    numbers = {signal.SIGTERM, signal.SIGUSR1}
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    parent = multiprocessing.parent_process().pid

    def _listen() -> None:
        while signal.sigwaitinfo(numbers).si_pid != parent:
            pass
        os._exit(0)

    threading.Thread(target=_listen, daemon=True).start()
    if init_fn is not None:
        init_fn(worker_id)


def positioned_loader(loader: DataLoader, seed: int, infinite: bool) -> DataLoader:
    """Rebuilds a data loader so that its samples are a function of (seed, position).

    Guaranteed for transforms that draw from Python's, numpy's and torch's global
    generators. A transform with a generator or a counter of its own is not reached.

    Args:
        loader: A loader over a map-style dataset with a batch size; not iterated so far.
        seed: Key of the random transforms.
        infinite: See :class:`PositionedBatchSampler`.

    Returns:
        A loader with the same options. Its ``batch_sampler`` is a
        :class:`PositionedBatchSampler`; iterating it draws nothing from the training's
        generators.

    Raises:
        UserError: For an ``IterableDataset``, a loader without a batch size, an empty dataset,
            or a ``RatioSampler`` made for another batch size.
    """
    dataset = loader.dataset
    if isinstance(dataset, IterableDataset) or loader.batch_sampler is None:
        raise UserError(
            f'{type(dataset).__name__}: exact resume needs a map-style dataset and a '
            'batch_size; use the loops of mmengine for streams'
        )
    if len(dataset) == 0:
        raise UserError('the training dataset is empty: check its annotation file or split')
    sampler = getattr(loader.batch_sampler, 'sampler', None)
    if isinstance(sampler, RatioSampler) and len(sampler.sizes) > 1:
        size = loader.batch_sampler.batch_size
        if sampler.batch_size != size:
            raise UserError(
                f'batch_size is {sampler.batch_size} in the {type(sampler).__name__} and {size} '
                'in the data loader: give both the same'
            )
    dataset.__getitems__ = PositionedFetch(dataset)
    options = dict(
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
    )
    if loader.num_workers > 0:
        options.update(
            num_workers=loader.num_workers,
            worker_init_fn=partial(_shielded_init, init_fn=loader.worker_init_fn),
            multiprocessing_context=loader.multiprocessing_context,
            prefetch_factor=loader.prefetch_factor,
            persistent_workers=loader.persistent_workers,
        )
    return DataLoader(
        dataset,
        batch_sampler=PositionedBatchSampler(loader.batch_sampler, seed, infinite),
        generator=torch.Generator().manual_seed(int(seed)),
        **options,
    )
