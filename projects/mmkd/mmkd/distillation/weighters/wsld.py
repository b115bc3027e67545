"""Weighted soft labels: more of the teacher where the student is worse (arXiv:2102.00650)."""

from __future__ import annotations

import torch
from torch import Tensor

from mmkd.distillation.knowledge import Knowledge, cross_entropy_per_sample
from mmkd.distillation.losses.base import single_precision
from mmkd.distillation.weighters.base import SampleWeighter, Weights
from mmkd.registry import MODELS

SMALLEST = 1e-7
"""Added to the teacher's loss that the student's is divided by."""


def worse_than_teacher(k: Knowledge) -> Tensor:
    """``1 - exp(-CE_student / CE_teacher)`` at temperature 1, ``(B,)``, in [0, 1]."""
    mine = cross_entropy_per_sample(single_precision(k.student), k.labels)
    theirs = cross_entropy_per_sample(single_precision(k.teacher), k.labels)
    return -torch.expm1(-mine / (theirs + SMALLEST))


@MODELS.register_module()
class WSLD(SampleWeighter):
    """``(scale w, 1)`` with w = :func:`worse_than_teacher`, without gradient.

    The paper's loss has the cross entropy of student and teacher in the place of KL; the student's
    gradient is the same, as the weights have none.

    Args:
        scale: 2.25 with t = 4 on CIFAR-100, 2.5 with t = 2 on ImageNet.
    """

    def __init__(self, scale: float = 2.25) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, k: Knowledge) -> Weights:
        """The weights of a batch."""
        worse = worse_than_teacher(k).detach()
        return self.scale * worse, torch.ones_like(worse)


@MODELS.register_module()
class WLSRatio(SampleWeighter):
    """``(w, 1 - w)`` with w = :func:`worse_than_teacher`, through which the student is trained too.

    How the code of arXiv:2312.15112 has WSLD among its baselines; there without the factor t^2.
    """

    def forward(self, k: Knowledge) -> Weights:
        """The weights of a batch."""
        worse = worse_than_teacher(k)
        return worse, 1 - worse
