"""Samples that know their number, by which what a teacher says of them is found again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.utils.data import Dataset

from mmkd.datasets.subsets import unchanged
from mmkd.registry import DATASETS


@DATASETS.register_module()
class IndexedDataset(Dataset):
    """Adds ``index`` to the samples of another data set.

    Args:
        dataset: config or built.
    """

    def __init__(self, dataset: Mapping[str, Any] | Dataset) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset
        self.metainfo = getattr(self.dataset, 'metainfo', {})

    @property
    def changes_samples(self) -> bool:
        """Whether a sample is another one each time."""
        return getattr(self.dataset, 'changes_samples', False)

    def unchanged(self) -> IndexedDataset:
        """The same samples without what changes them at random."""
        return IndexedDataset(unchanged(self.dataset))

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A sample with its number."""
        return {**self.dataset[index], 'index': index}
