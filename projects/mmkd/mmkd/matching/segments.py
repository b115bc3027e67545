"""Segments of expert trajectories as a function of (seed, iteration)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler

from mmdistill.core.errors import UserError
from mmdistill.core.rng import key_generator
from mmkd.experts.store import TrajectoryStore
from mmkd.matching.trajectory_matching import upper_bound
from mmkd.registry import DATA_SAMPLERS, DATASETS, FUNCTIONS


@DATASETS.register_module()
class SegmentDataset(Dataset):
    """Item i is the segment that iteration i matches; no state has to be kept to resume.

    A sample is ``dict(position, expert, epoch, start, target)``: three integers, the parameters
    ``(P,)`` of an expert after ``epoch`` epochs, and those ``length`` epochs later. Start epochs
    are drawn evenly from ``lower`` to below the bound of the iteration, see :func:`upper_bound`.

    Args:
        experts: folder of a :class:`TrajectoryStore`; all its experts must be finished.
        iterations: number of items.
        lower: first epoch to start at.
        upper: the bound at first.
        upper_max: the bound in the end; None: it stays.
        expansion: iterations until then.
        length: epochs of a segment.
        order: ``'cycle'``: every expert once before any comes again, in random order, as
            published; ``'independent'``: drawn evenly each time.
        seed: of the draws.

    Raises:
        UserError: no such store, unfinished experts, or epochs that they do not have.
    """

    def __init__(
        self,
        experts: str,
        iterations: int,
        lower: int,
        upper: int,
        upper_max: int | None = None,
        expansion: int = 1,
        length: int = 2,
        order: str = 'cycle',
        seed: int = 0,
    ) -> None:
        if order not in ('cycle', 'independent'):
            raise UserError(f"order of SegmentDataset is 'cycle' or 'independent', got {order!r}")
        if expansion < 1 or length < 1:
            raise UserError(
                f'expansion and length must be at least 1, got {expansion} and {length}'
            )
        last = upper if upper_max is None else upper_max
        if not 0 <= lower < upper <= last:
            raise UserError(
                'start epochs need 0 <= lower < upper <= upper_max, got '
                f'lower={lower}, upper={upper}, upper_max={upper_max}'
            )
        self.store = TrajectoryStore.open(experts)
        if left := self.store.unfinished():
            raise UserError(
                f'{experts}: experts {left} are not finished; run their training again, it goes on'
            )
        if last - 1 + length > self.store.epochs:
            raise UserError(
                f'{experts}: segments of {length} epochs that start at up to {last - 1} need '
                f'{last - 1 + length} epochs; the experts have {self.store.epochs}'
            )
        self.iterations, self.lower, self.length = iterations, lower, length
        self.upper, self.upper_max, self.expansion = upper, upper_max, expansion
        self.order, self.seed = order, seed

    def __len__(self) -> int:
        """Number of iterations."""
        return self.iterations

    def place(self, position: int) -> tuple[int, int]:
        """Expert and start epoch of an iteration."""
        count = self.store.experts
        draw = key_generator(self.seed, position)
        if self.order == 'cycle':
            cycle = torch.randperm(count, generator=key_generator(self.seed, -1, position // count))
            expert = int(cycle[position % count])
        else:
            expert = int(torch.randint(count, (), generator=draw))
        bound = upper_bound(position, self.upper, self.upper_max, self.expansion)
        return expert, int(torch.randint(self.lower, bound, (), generator=draw))

    def __getitem__(self, position: int) -> dict[str, Any]:
        """The segment of an iteration."""
        expert, epoch = self.place(position)
        start, target = self.store.segment(expert, epoch, self.length)
        return dict(position=position, expert=expert, epoch=epoch, start=start, target=target)


@DATA_SAMPLERS.register_module()
class InOrder(Sampler):
    """0, 1, 2 and so on, on every rank: each rank works on its share of the same segment.

    Args:
        dataset: what is sampled.
        seed: not used; the runner gives it to every sampler.
    """

    infinite = True

    def __init__(self, dataset: Dataset, seed: int | None = None) -> None:
        self.dataset = dataset
        self._next = 0

    def skip(self, count: int) -> None:
        """The next iteration starts behind ``count`` samples."""
        self._next = int(count)

    def __iter__(self) -> Iterator[int]:
        """Positions without end."""
        position, self._next = self._next, 0
        while True:
            yield position
            position += 1

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.dataset)


@FUNCTIONS.register_module()
def single(batch: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The segment of a batch of one.

    Raises:
        UserError: a larger batch.
    """
    if len(batch) != 1:
        raise UserError(f'batch_size of SegmentDataset must be 1, got {len(batch)}')
    return batch[0]
