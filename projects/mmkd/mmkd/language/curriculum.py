"""The order of a whole training: stages, their epochs, and the packs of each epoch."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from itertools import accumulate as running_sum
from typing import Any

from mmengine.dist import get_world_size
from torch.utils.data import Dataset

from mmdistill.core.errors import UserError
from mmkd.registry import DATASETS


@DATASETS.register_module()
class Curriculum(Dataset):
    """Packs of all epochs of all stages, one after the other; to be read in order.

    Every epoch is packed anew, and filled up with empty packs to a whole number of steps, so that
    all ranks take the same number of them and a stage begins at an exact step. What is at a place
    is a function of the place: nothing is read to get there.

    Args:
        stages: a mapping per stage: ``name``, ``dataset`` (of the kind of
            :class:`mmkd.language.packed_dataset.PackedDataset`, or its config), ``epochs``.
        batch_size: packs per batch; that of the data loader.
        accumulate: batches per step; that of the training loop.

    Attributes:
        names: of the stages.
        sizes: places of the stages.

    Raises:
        UserError: no stage, two of one name, unknown keys, or a number that is not positive.
    """

    def __init__(
        self, stages: Sequence[Mapping[str, Any]], batch_size: int = 1, accumulate: int = 1
    ) -> None:
        if not stages:
            raise UserError('stages of Curriculum is empty: give at least one')
        if min(batch_size, accumulate) < 1:
            raise UserError(
                f'batch_size and accumulate must be at least 1, got {batch_size} and {accumulate}'
            )
        per_step = batch_size * accumulate * get_world_size()
        self.names: list[str] = []
        self.sizes: list[int] = []
        self._datasets: list[Any] = []
        self._epochs: list[tuple[int, int]] = []
        lengths: list[int] = []
        for number, stage in enumerate(stages):
            dataset, epochs = self._checked(stage)
            counts = [dataset.count(epoch) for epoch in range(epochs)]
            filled = [-(-count // per_step) * per_step for count in counts]
            self.names.append(stage['name'])
            self.sizes.append(sum(filled))
            self._datasets.append(dataset)
            self._epochs += [(number, epoch) for epoch in range(epochs)]
            lengths += filled
        self._begins = [0, *running_sum(lengths)]

    def _checked(self, stage: Mapping[str, Any]) -> tuple[Any, int]:
        """Data set and epochs of a stage."""
        unknown = set(stage) - {'name', 'dataset', 'epochs'}
        if unknown or not {'name', 'dataset'} <= set(stage):
            raise UserError(
                f'stage {stage.get("name")!r} must have name, dataset and epochs, got '
                f'{", ".join(sorted(stage))}'
            )
        name, epochs = stage['name'], stage.get('epochs', 1)
        if name in self.names:
            raise UserError(f'two stages are named {name!r}')
        if not isinstance(epochs, int) or epochs < 1:
            raise UserError(f'epochs of stage {name!r} must be a whole number >= 1, got {epochs!r}')
        dataset = stage['dataset']
        return DATASETS.build(dict(dataset)) if isinstance(dataset, Mapping) else dataset, epochs

    def __len__(self) -> int:
        """Places of all stages."""
        return self._begins[-1]

    def place(self, index: int) -> tuple[int, int, int]:
        """Stage, epoch and pack of a place; the pack is beyond the last one for an empty one."""
        if not 0 <= index < len(self):
            raise IndexError(f'place {index} of {len(self)}')
        number = bisect.bisect_right(self._begins, index) - 1
        return *self._epochs[number], index - self._begins[number]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The pack of a place, see :class:`mmkd.language.packed_dataset.PackedDataset`."""
        stage, epoch, pack = self.place(index)
        dataset = self._datasets[stage]
        return dataset.pack(epoch, pack) if pack < dataset.count(epoch) else dataset.empty()
