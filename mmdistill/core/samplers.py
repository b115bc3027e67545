"""Samplers whose order is a pure function of (seed, epoch, position): resumable by ``skip``."""

from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from mmdistill.core.errors import UserError
from mmdistill.core.rng import key_generator
from mmdistill.registry import DATA_SAMPLERS


class _Source:
    """Permutations of ``size`` items, one per round, the same on all ranks."""

    def __init__(self, size: int, keys: tuple[int, ...], shuffle: bool) -> None:
        self.size, self.keys, self.shuffle = size, keys, shuffle
        self._round, self._order = -1, torch.empty(0, dtype=torch.long)

    def item(self, round_index: int, place: int) -> int:
        """Item at a place of one round's permutation."""
        if round_index != self._round:
            self._round = round_index
            self._order = torch.arange(self.size)
            if self.shuffle:
                generator = key_generator(*self.keys, round_index)
                self._order = torch.randperm(self.size, generator=generator)
        return int(self._order[place])


@DATA_SAMPLERS.register_module()
class RatioSampler(Sampler[int]):
    """Batches with a fixed number of samples of every source.

    Each source is a row of permutations that all ranks share; rank r of w takes its entries
    r, r + w, ..., so in one pass over a source no two ranks see the same sample. An infinite
    sampler goes through the permutations without a gap. A finite one starts its defining
    source with a fresh permutation every epoch and fills up the last batches of the epoch
    with its first entries; the other sources go on where they were.

    Args:
        dataset: a ``ConcatDataset`` (its parts are the sources) or, with ``source_sizes``, any
            dataset of that many items.
        batch_size: samples per batch and rank; must be the data loader's.
        ratios: parts of a batch per source, for instance ``(1, 3)``: of 4 samples one is
            labelled; scaled to ``batch_size``.
        source_sizes: sizes of the sources in dataset order; default: the dataset's own
            ``source_sizes`` (labelled, unlabelled).
        seed: first key of all permutations; None draws one that all ranks share.
        shuffle: draw permutations, else go in order.
        infinite: never end; else end when ``epoch_of`` has been seen once by all ranks together.
        epoch_of: index of the source that defines an epoch; default: the one that lasts longest.

    Raises:
        UserError: an empty source with a positive ratio, ratios that do not fit the batch, or
            numbers that are not whole or negative.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        ratios: Sequence[int],
        source_sizes: Sequence[int] | None = None,
        seed: int | None = 0,
        shuffle: bool = True,
        infinite: bool = True,
        epoch_of: int | None = None,
    ) -> None:
        sizes = self._sizes(dataset, source_sizes)
        for number in (batch_size, *ratios, *sizes):
            if not isinstance(number, Integral):
                raise UserError(
                    f'batch_size {batch_size!r}, ratios {ratios!r} and source sizes {sizes!r} '
                    'must be whole numbers'
                )
        if min(sizes, default=0) < 0:
            raise UserError(f'source_sizes {tuple(sizes)} must not be negative')
        if len(ratios) != len(sizes) or min(ratios, default=0) < 0 or sum(ratios) <= 0:
            raise UserError(
                f'ratios {tuple(ratios)} must name one number >= 0 for each of the '
                f'{len(sizes)} sources of sizes {sizes}, not all of them 0'
            )
        if batch_size < 1 or batch_size % sum(ratios):
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
        self.seed = int(sync_random_seed() if seed is None else seed)
        self.infinite, self.shuffle, self.batch_size = infinite, shuffle, batch_size
        self.sizes = sizes
        self.offsets = [sum(sizes[:index]) for index in range(len(sizes))]
        batches = {
            index: -(-sizes[index] // (count * self.world))
            for index, count in enumerate(self.counts)
            if count
        }
        if epoch_of is not None and epoch_of not in batches:
            raise UserError(f'epoch_of={epoch_of} is not a source with a positive ratio')
        self.epoch_of = max(batches, key=batches.__getitem__) if epoch_of is None else epoch_of
        self.batches = batches[self.epoch_of]
        self.epoch, self._start = 0, 0

    @staticmethod
    def _sizes(dataset: Any, source_sizes: Sequence[int] | None) -> list[int]:
        """Sizes of the sources: as given, as the dataset says, or of its parts."""
        if source_sizes is None:
            source_sizes = getattr(dataset, 'source_sizes', None)
        if source_sizes is not None:
            if sum(source_sizes) != len(dataset):
                raise UserError(
                    f'source_sizes {tuple(source_sizes)} do not add up to the {len(dataset)} '
                    'samples of the dataset'
                )
            return list(source_sizes)
        parts = getattr(dataset, 'datasets', None)
        if parts is None:
            raise UserError(
                f'{type(dataset).__name__} has no parts: use ConcatDataset or give source_sizes'
            )
        return [len(part) for part in parts]

    def __iter__(self) -> Iterator[int]:
        sources = [
            _Source(size, (self.seed, index), self.shuffle) for index, size in enumerate(self.sizes)
        ]
        batch, inside = divmod(self._start, self.batch_size)
        self._start, epoch = 0, self.epoch
        while self.infinite or batch < self.batches:
            row = [
                self.offsets[index] + self._item(source, index, epoch, batch * count + step)
                for index, (source, count) in enumerate(zip(sources, self.counts, strict=True))
                for step in range(count)
            ]
            yield from row[inside:]
            batch, inside = batch + 1, 0

    def _item(self, source: _Source, index: int, epoch: int, step: int) -> int:
        """Sample number ``step`` that this rank takes from a source in this epoch."""
        if self.infinite:
            return source.item(*divmod(step * self.world + self.rank, source.size))
        if index == self.epoch_of:
            return source.item(epoch, (step * self.world + self.rank) % source.size)
        step += epoch * self.batches * self.counts[index]
        return source.item(*divmod(step * self.world + self.rank, source.size))

    def __len__(self) -> int:
        return self.batches * self.batch_size

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


@DATA_SAMPLERS.register_module()
class NaturalSampler(RatioSampler):
    """Labelled and unlabelled samples at their natural frequency (HSSDA, arXiv:2304.01464).

    All ranks together see every sample once per epoch; a finite one repeats a few at its end
    when the number of ranks does not divide the dataset.

    Args:
        dataset: any dataset.
        seed: first key of all permutations; None draws one that all ranks share.
        shuffle: draw permutations, else go in order.
        infinite: never end; else end after an epoch.
    """

    def __init__(
        self, dataset: Any, seed: int | None = 0, shuffle: bool = True, infinite: bool = True
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
