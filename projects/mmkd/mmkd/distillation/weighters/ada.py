"""As much of the teacher as it is right (ADA in arXiv:2312.15112)."""

from __future__ import annotations

from mmkd.distillation.knowledge import Knowledge
from mmkd.distillation.losses.base import single_precision
from mmkd.distillation.weighters.base import SampleWeighter, Weights
from mmkd.registry import MODELS


@MODELS.register_module()
class ADAWeighter(SampleWeighter):
    """``(a, 1 - a)`` with ``a = max(0, p(y) - (1 - p(y)) / (C - 1))``, p the teacher's, t = 1.

    That is 1 for a teacher that is sure and right, 0 for one that knows or tells nothing of y.
    """

    def forward(self, k: Knowledge) -> Weights:
        """The weights of a batch."""
        right = single_precision(k.teacher).softmax(-1).gather(-1, k.labels[:, None]).squeeze(-1)
        ratio = (right - (1 - right) / (k.teacher.shape[-1] - 1)).clamp(min=0)
        return ratio, 1 - ratio
