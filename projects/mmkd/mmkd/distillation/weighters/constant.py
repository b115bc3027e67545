"""The same weights for all samples (KD, arXiv:1503.02531)."""

from __future__ import annotations

from mmdistill.core.errors import UserError
from mmkd.distillation.knowledge import Knowledge
from mmkd.distillation.weighters.base import SampleWeighter, Weights, everywhere
from mmkd.registry import MODELS


@MODELS.register_module()
class ConstantWeighter(SampleWeighter):
    """``(ratio, 1 - ratio)``.

    Args:
        ratio: of distillation; 0: labels alone, 1: teacher alone.

    Raises:
        UserError: ``ratio`` is not in [0, 1].
    """

    def __init__(self, ratio: float = 0.9) -> None:
        super().__init__()
        if not 0 <= ratio <= 1:
            raise UserError(f'ConstantWeighter: ratio is in [0, 1], got {ratio}')
        self.ratio = ratio

    def forward(self, k: Knowledge) -> Weights:
        """The weights of a batch."""
        return everywhere(k, self.ratio), everywhere(k, 1 - self.ratio)
