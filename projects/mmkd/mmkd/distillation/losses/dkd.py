"""Decoupled knowledge distillation (DKD, arXiv:2203.08679)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmkd.distillation.knowledge import Knowledge
from mmkd.distillation.losses.base import DistillationLoss, single_precision
from mmkd.registry import MODELS


def decoupled_per_sample(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """The two parts of distillation; ``t^2 KL = target + (1 - p_teacher(label)) others``.

    Args:
        student: logits ``(B, C)``.
        teacher: logits ``(B, C)``.
        labels: classes ``(B,)``.
        temperature: t.

    Returns:
        ``t^2 KL`` of label against not label (TCKD), and among the other classes (NCKD), ``(B,)``
        each.
    """
    mine, my_others = _log_parts(student / temperature, labels)
    theirs, their_others = _log_parts(teacher / temperature, labels)
    target, others = (
        F.kl_div(a, b, reduction='none', log_target=True).sum(-1)
        for a, b in ((mine, theirs), (my_others, their_others))
    )
    return temperature**2 * target, temperature**2 * others


def _log_parts(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Log probabilities of (label, not label) ``(B, 2)``, and of the others ``(B, C - 1)``."""
    place = labels[:, None]
    numbers = torch.arange(logits.shape[-1] - 1, device=logits.device)
    others = logits.gather(-1, numbers + (numbers >= place))
    binary = torch.cat([logits.gather(-1, place), others.logsumexp(-1, keepdim=True)], -1)
    return binary.log_softmax(-1), others.log_softmax(-1)


@MODELS.register_module()
class DKD(DistillationLoss):
    """``alpha TCKD + beta NCKD``, averaged over samples; see :func:`decoupled_per_sample`.

    Args:
        alpha: weight of label against not label.
        beta: weight of the other classes among themselves.
        temperature: None: that of the distillation.
        weight: see :class:`DistillationLoss`.
        warmup: alike.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 8.0,
        temperature: float | None = None,
        weight: float = 1.0,
        warmup: float = 0.0,
    ) -> None:
        super().__init__(weight, warmup)
        self.alpha, self.beta, self.temperature = alpha, beta, temperature

    def loss(self, k: Knowledge) -> Tensor:
        """Of the logits."""
        temperature = k.temperature if self.temperature is None else self.temperature
        student, teacher = single_precision(k.student), single_precision(k.teacher)
        target, others = decoupled_per_sample(student, teacher, k.labels, temperature)
        return (self.alpha * target + self.beta * others).mean()
