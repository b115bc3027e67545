"""From the teacher to the labels (ANL in arXiv:2312.15112)."""

from __future__ import annotations

from mmkd.distillation.knowledge import Knowledge
from mmkd.distillation.weighters.base import SampleWeighter, Weights, everywhere
from mmkd.registry import MODELS


@MODELS.register_module()
class AnnealingWeighter(SampleWeighter):
    """``(ratio, 1 - ratio)``, the ratio from 1 to 0 linearly over the training."""

    def forward(self, k: Knowledge) -> Weights:
        """The weights of a batch."""
        ratio = min(1.0, max(0.0, 1 - k.progress))
        return everywhere(k, ratio), everywhere(k, 1 - ratio)
