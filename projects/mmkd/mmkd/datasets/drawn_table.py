"""A drawn table: classes are clouds of points that overlap."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mmdistill.core.errors import UserError
from mmdistill.core.rng import key_generator
from mmkd.registry import DATASETS

SPLITS = ('train', 'teacher', 'test')
"""Rows of their own each, from the same clouds."""


@DATASETS.register_module()
class DrawnTable(Dataset):
    """Rows of normal clouds, one per class; ``dict(inputs=dict(numeric=(F,)), labels)``.

    Args:
        split: see :data:`SPLITS`.
        size: number of rows.
        num_features: F.
        num_classes: C.
        distance: standard deviation of the clouds' centres.
        spread: of the rows around them.
        seed: of centres and rows.

    Raises:
        UserError: an unknown split, or no rows.
    """

    def __init__(
        self,
        split: str,
        size: int,
        num_features: int = 8,
        num_classes: int = 4,
        distance: float = 1.5,
        spread: float = 1.3,
        seed: int = 0,
    ) -> None:
        if split not in SPLITS:
            raise UserError(f'split of DrawnTable is one of {SPLITS}, got {split!r}')
        if size < 1:
            raise UserError(f'size of DrawnTable must be at least 1, got {size}')
        draw = key_generator(seed, len(SPLITS))
        self.centres: Tensor = distance * torch.randn(num_classes, num_features, generator=draw)
        draw = key_generator(seed, SPLITS.index(split))
        self.labels: Tensor = torch.randint(num_classes, (size,), generator=draw)
        noise = torch.randn(size, num_features, generator=draw)
        self.rows: Tensor = self.centres[self.labels] + spread * noise
        self.metainfo = dict(classes=tuple(map(str, range(num_classes))))

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A sample."""
        return dict(inputs=dict(numeric=self.rows[index]), labels=int(self.labels[index]))
