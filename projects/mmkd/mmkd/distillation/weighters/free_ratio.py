"""One learned number per training sample (RW in arXiv:2312.15112)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn

from mmdistill.core.errors import UserError
from mmkd.distillation.knowledge import Knowledge
from mmkd.distillation.weighters.base import SampleWeighter, Weights
from mmkd.registry import MODELS


@MODELS.register_module()
class FreeRatio(SampleWeighter):
    """``(a, 1 - a)``, a being the sample's own number.

    Args:
        num_samples: of the training set.
        learned: ``'training'``: numbers make the training loss small (RW-free); ``'meta'``: the
            loss of held-out samples (RW-meta).
        start: all numbers at first.
        bounded: numbers stay in (0, 1), by a sigmoid; else they are free, as in the paper's code,
            and the training loss has no minimum.

    Raises:
        UserError: unknown ``learned``, ``start`` out of (0, 1) where it is bounded, or samples
            without an index or with one too large.
    """

    needs_index = True

    def __init__(
        self,
        num_samples: int,
        learned: Literal['training', 'meta'] = 'training',
        start: float = 0.5,
        bounded: bool = True,
    ) -> None:
        super().__init__()
        if learned not in ('training', 'meta'):
            raise UserError(f"FreeRatio: learned is 'training' or 'meta', got {learned!r}")
        if bounded and not 0 < start < 1:
            raise UserError(f'FreeRatio: start is in (0, 1), got {start}; or use bounded=False')
        self.learned, self.bounded = learned, bounded
        value = math.log(start / (1 - start)) if bounded else start
        self.values = nn.Parameter(torch.full((num_samples,), float(value)))

    def forward(self, k: Knowledge) -> Weights:
        """The weights of a batch."""
        if k.index is None:
            raise UserError(
                'FreeRatio needs samples with an index: wrap the training set in '
                "dict(type='mmkd.IndexedDataset', dataset=...)"
            )
        if k.index.device.type == 'cpu' and k.index.max() >= len(self.values):
            raise UserError(
                f'FreeRatio: num_samples={len(self.values)}, but there is a sample of index '
                f'{int(k.index.max())}; give num_samples the length of the training set'
            )
        found = self.values[k.index]
        ratio = found.sigmoid() if self.bounded else found
        return ratio, 1 - ratio
