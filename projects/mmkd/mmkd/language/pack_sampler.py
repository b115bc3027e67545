"""Shares the packs of each epoch among ranks that all take the same number of steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from mmdistill.core.errors import UserError
from mmkd.language.packed_dataset import PackedDataset
from mmkd.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class PackSampler(Sampler[tuple[int, int]]):
    """Rank r of W takes packs r, r + W, ... of an epoch as ``(epoch, number)``.

    Packs come in random order already. An epoch is filled up with empty packs, numbers beyond the
    last one, to a whole number of steps of all ranks.

    Args:
        dataset: a :class:`mmkd.language.packed_dataset.PackedDataset`.
        batch_size: packs per batch and rank; must be the data loader's.
        accumulate: batches per step; the training loop's.
        infinite: goes on with the next epoch instead of ending.
        seed: not used, mmengine gives it: the order is that of the data set's own seed.

    Raises:
        UserError: a number below 1, or another kind of data set.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        accumulate: int = 1,
        infinite: bool = False,
        seed: int | None = None,
    ) -> None:
        if not isinstance(dataset, PackedDataset):
            raise UserError(
                f'PackSampler shares the packs of a PackedDataset, not {type(dataset).__name__}'
            )
        if min(batch_size, accumulate) < 1:
            raise UserError(
                f'batch_size and accumulate must be at least 1, got {batch_size} and {accumulate}'
            )
        self.dataset, self.infinite = dataset, infinite
        self.rank, self.world = get_dist_info()
        self.multiple = batch_size * accumulate
        self.epoch, self._start = 0, 0

    def size(self, epoch: int) -> int:
        """Packs of an epoch that a rank takes, empty ones included."""
        return -(-self.dataset.count(epoch) // (self.multiple * self.world)) * self.multiple

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Packs of this rank, of one epoch or without end."""
        epoch, start = self.epoch, self._start
        self._start = 0
        while True:
            size = self.size(epoch)
            for place in range(start, size):
                yield epoch, place * self.world + self.rank
            if not self.infinite:
                return
            epoch, start = epoch + 1, max(0, start - size)

    def __len__(self) -> int:
        """Packs of this rank in the epoch."""
        return self.size(self.epoch)

    def skip(self, samples: int) -> None:
        """The next iteration begins after ``samples`` packs of this rank, which are not read.

        Args:
            samples: counted from the beginning of the epoch; may reach into later epochs of an
                infinite sampler.

        Raises:
            UserError: a negative number.
        """
        if samples < 0:
            raise UserError(f'cannot skip {samples} packs')
        self._start = int(samples)

    def set_epoch(self, epoch: int) -> None:
        """Epoch of the next iteration; where an infinite sampler begins."""
        self.epoch = int(epoch)

    def state_dict(self) -> dict[str, int]:
        """What the order depends on, to be compared on resume."""
        return dict(seed=self.dataset.seed, epoch=self.epoch, world=self.world)

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Takes over the epoch.

        Raises:
            UserError: the packs are those of another seed or number of ranks.
        """
        for key, value in self.state_dict().items():
            if key != 'epoch' and state[key] != value:
                raise UserError(f'packs were shared with {key} = {state[key]}, now it is {value}')
        self.epoch = int(state['epoch'])
