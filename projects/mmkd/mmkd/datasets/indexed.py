"""Samples that know their number, by which what a teacher says of them is found again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.utils.data import Dataset

from mmdistill.core.errors import UserError
from mmkd.registry import DATASETS


@DATASETS.register_module()
class IndexedDataset(Dataset):
    """Adds ``index`` to the samples of another data set.

    Args:
        dataset: config or built; a sample must be the same each time it is read.

    Raises:
        UserError: the data set changes its samples at random.
    """

    def __init__(self, dataset: Mapping[str, Any] | Dataset) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset
        if getattr(self.dataset, 'changes_samples', False):
            raise UserError(
                f'{type(self.dataset).__name__} changes its samples at random (pad, flip): what a '
                'teacher said of one does not hold for the next'
            )
        self.metainfo = getattr(self.dataset, 'metainfo', {})

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A sample with its number."""
        return {**self.dataset[index], 'index': index}
