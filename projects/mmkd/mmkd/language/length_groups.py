"""Epochs in which samples of like length share a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from mmdistill.core.errors import UserError
from mmdistill.core.rng import key_generator
from mmkd.registry import DATA_SAMPLERS


def length_groups(lengths: np.ndarray, size: int, window: int, key: tuple[int, ...]) -> np.ndarray:
    """A random order in which runs of ``size`` samples are of like length.

    Samples are shuffled, sorted within windows, cut into runs, and the runs are shuffled.

    Args:
        lengths: ``(N,)``.
        size: samples of a run.
        window: runs of a window; 1: no sorting, so that runs are random.
        key: of the draws.

    Returns:
        ``(R, size)`` numbers of samples, R = N / size rounded up: every one once, and some of the
        first ones a second time to fill the last run.
    """
    numbers = key_generator(*key)
    order = torch.randperm(len(lengths), generator=numbers).numpy()
    order = np.resize(order, -(-len(order) // size) * size)
    runs = []
    for begin in range(0, len(order), size * window):
        part = order[begin : begin + size * window]
        if window > 1:
            part = part[np.argsort(-lengths[part], kind='stable')]
        runs.append(part.reshape(-1, size))
    found = np.concatenate(runs)
    return found[torch.randperm(len(found), generator=numbers).numpy()]


@DATA_SAMPLERS.register_module()
class LengthGroupedSampler(Sampler[tuple[int, int]]):
    """See :func:`length_groups`: what it yields is a function of (seed, epoch, position).

    All ranks share a run of ``batch_size`` times ranks samples, so their batches are of like length
    too. Indices are pairs (epoch, number), so that a data set whose samples differ by epoch knows
    it in every worker.

    Args:
        dataset: with ``lengths`` of its samples, unless they are given.
        batch_size: samples per batch and rank; must be the data loader's.
        seed: first key of all draws; None draws one that all ranks share.
        window: batches that are sorted at a time; more are of more equal length, fewer more
            random.
        infinite: never end; else end after an epoch.
        lengths: of the samples.

    Raises:
        UserError: numbers that are not positive, no lengths, or not one for each sample.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        seed: int | None = 0,
        window: int = 50,
        infinite: bool = False,
        lengths: Sequence[int] | None = None,
    ) -> None:
        if min(batch_size, window) < 1:
            raise UserError(
                f'batch_size and window must be at least 1, got {batch_size} and {window}'
            )
        lengths = getattr(dataset, 'lengths', None) if lengths is None else lengths
        if lengths is None:
            raise UserError(f'{type(dataset).__name__} has no lengths: give them to the sampler')
        if len(lengths) != len(dataset) or not len(lengths):
            raise UserError(
                f'there are {len(lengths)} lengths and {len(dataset)} samples: the sampler needs '
                'one for each, and one at least'
            )
        self.lengths = np.asarray(lengths)
        self.batch_size, self.window, self.infinite = batch_size, window, infinite
        self.rank, self.world = get_dist_info()
        self.seed = int(sync_random_seed() if seed is None else seed)
        self.epoch, self._start = 0, 0

    def order(self, epoch: int) -> list[int]:
        """Samples of this rank in an epoch."""
        size = self.batch_size * self.world
        runs = length_groups(self.lengths, size, self.window, (self.seed, epoch))
        return runs[:, self.rank :: self.world].reshape(-1).tolist()

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, start = self.epoch, self._start
        self._start = 0
        if self.infinite:
            epoch, start = divmod(start, len(self))
        yield from ((epoch, number) for number in self.order(epoch)[start:])
        while self.infinite:
            epoch += 1
            yield from ((epoch, number) for number in self.order(epoch))

    def __len__(self) -> int:
        size = self.batch_size * self.world
        return -(-len(self.lengths) // size) * self.batch_size

    def skip(self, samples: int) -> None:
        """The next iteration begins after ``samples`` samples of this rank."""
        if samples < 0:
            raise UserError(f'cannot skip {samples} samples')
        self._start = int(samples)

    def set_epoch(self, epoch: int) -> None:
        """Epoch of a finite sampler; an infinite one takes no notice."""
        self.epoch = int(epoch)

    def state_dict(self) -> dict[str, int]:
        """What the order depends on, to be compared on resume."""
        return dict(seed=self.seed, epoch=self.epoch, world=self.world)

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Takes over seed and epoch."""
        self.seed, self.epoch = int(state['seed']), int(state['epoch'])
