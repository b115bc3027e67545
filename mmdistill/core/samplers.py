"""Samplers whose order is a pure function of (seed, epoch, position): resumable by ``skip``."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from mmdistill.core.errors import UserError
from mmdistill.core.rng import key_generator
from mmdistill.registry import DATA_SAMPLERS


class _Source:
    """Endless seeded epochs over ``size`` items, split over ranks without overlap.

    Every epoch is one permutation shared by all ranks; rank r takes entries r, r + world, ...
    of the concatenation of all epochs, so within an epoch no two ranks see the same item.
    """

    def __init__(self, size: int, keys: tuple[int, ...], rank: int, world: int, shuffle: bool):
        self.size, self.keys, self.rank, self.world = size, keys, rank, world
        self.shuffle = shuffle
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def __getitem__(self, position: int) -> int:
        """Item number ``position`` of this rank."""
        epoch, place = divmod(position * self.world + self.rank, self.size)
        if epoch != self._epoch:
            self._epoch = epoch
            if self.shuffle:
                generator = key_generator(*self.keys, epoch)
                self._order = torch.randperm(self.size, generator=generator)
            else:
                self._order = torch.arange(self.size)
        return int(self._order[place])


@DATA_SAMPLERS.register_module()
class RatioSampler(Sampler[int]):
    """Batches with a fixed number of samples of every source.

    Args:
        dataset: a ``ConcatDataset`` (its parts are the sources) or, with ``source_sizes``, any
            dataset of that many items.
        batch_size: samples per batch and rank.
        ratios: parts of a batch per source, for instance ``(1, 3)``: of 4 samples one is
            labelled; scaled to ``batch_size``.
        source_sizes: sizes of the sources in dataset order.
        seed: first key of all permutations.
        shuffle: draw permutations, else go in order.
        infinite: never end; else end when ``epoch_of`` has been seen once by all ranks together.
        epoch_of: index of the source that defines an epoch; default: the one that lasts longest.

    Raises:
        UserError: an empty source with a positive ratio, or ratios that do not fit the batch.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        ratios: Sequence[int],
        source_sizes: Sequence[int] | None = None,
        seed: int = 0,
        shuffle: bool = True,
        infinite: bool = True,
        epoch_of: int | None = None,
    ) -> None:
        sizes = self._sizes(dataset, source_sizes)
        if len(ratios) != len(sizes) or min(ratios) < 0 or sum(ratios) <= 0:
            raise UserError(
                f'ratios {tuple(ratios)} must name one number >= 0 for each of the '
                f'{len(sizes)} sources of sizes {sizes}'
            )
        if batch_size % sum(ratios):
            raise UserError(
                f'batch_size {batch_size} is no multiple of the sum of ratios {tuple(ratios)}'
            )
        for index, (size, ratio) in enumerate(zip(sizes, ratios, strict=True)):
            if size == 0 and ratio > 0:
                raise UserError(
                    f'source {index} is empty but has ratio {ratio}: check its annotation file '
                    'or split'
                )
        self.counts = [ratio * batch_size // sum(ratios) for ratio in ratios]
        self.rank, self.world = get_dist_info()
        self.seed, self.infinite, self.batch_size = seed, infinite, batch_size
        self.sizes, self.shuffle = sizes, shuffle
        self.offsets = [sum(sizes[:index]) for index in range(len(sizes))]
        used = [index for index, count in enumerate(self.counts) if count]
        batches = {
            index: -(-sizes[index] // (self.counts[index] * self.world)) for index in used
        }
        if epoch_of is not None and epoch_of not in batches:
            raise UserError(f'epoch_of={epoch_of} is not a source with a positive ratio')
        self.batches = batches[epoch_of] if epoch_of is not None else max(batches.values())
        self.epoch, self._start = 0, 0

    @staticmethod
    def _sizes(dataset: Any, source_sizes: Sequence[int] | None) -> list[int]:
        """Sizes of the sources."""
        if source_sizes is not None:
            if sum(source_sizes) != len(dataset):
                raise UserError(
                    f'source_sizes {tuple(source_sizes)} do not add up to the {len(dataset)} '
                    'samples of the dataset'
                )
            return [int(size) for size in source_sizes]
        parts = getattr(dataset, 'datasets', None)
        if parts is None:
            raise UserError(
                f'{type(dataset).__name__} has no parts: use ConcatDataset or give source_sizes'
            )
        return [len(part) for part in parts]

    def _sources(self) -> list[_Source]:
        """The endless sources of this rank."""
        return [
            _Source(size, (self.seed, index), self.rank, self.world, self.shuffle)
            for index, size in enumerate(self.sizes)
        ]

    def __iter__(self) -> Iterator[int]:
        sources = self._sources()
        first = 0 if self.infinite else self.epoch * self.batches
        start, self._start = self._start, 0
        batch, inside = divmod(start, self.batch_size)
        while self.infinite or batch < self.batches:
            row = []
            for source, count, offset in zip(sources, self.counts, self.offsets, strict=True):
                base = (first + batch) * count
                row += [offset + source[base + step] for step in range(count)]
            yield from row[inside:]
            batch, inside = batch + 1, 0

    def __len__(self) -> int:
        return self.batches * self.batch_size

    def skip(self, samples: int) -> None:
        """The next iteration begins after ``samples`` samples of this rank."""
        self._start = int(samples)

    def set_epoch(self, epoch: int) -> None:
        """Epoch of a finite sampler."""
        self.epoch = int(epoch)

    def state_dict(self) -> dict[str, int]:
        """What the order depends on, to be compared on resume."""
        return dict(seed=self.seed, epoch=self.epoch, world=self.world)

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Takes over seed and epoch."""
        self.seed, self.epoch = int(state['seed']), int(state['epoch'])


@DATA_SAMPLERS.register_module()
class NaturalSampler(RatioSampler):
    """Labelled and unlabelled samples at their natural frequency (HSSDA, 1.1).

    Every sample once per epoch over all ranks together (up to padding of the last round).

    Args:
        dataset: any dataset.
        seed: first key of all permutations.
        shuffle: draw permutations, else go in order.
        infinite: never end; else end after an epoch.
    """

    def __init__(
        self, dataset: Any, seed: int = 0, shuffle: bool = True, infinite: bool = True
    ) -> None:
        super().__init__(
            dataset,
            batch_size=1,
            ratios=(1,),
            source_sizes=(len(dataset),),
            seed=seed,
            shuffle=shuffle,
            infinite=infinite,
        )
