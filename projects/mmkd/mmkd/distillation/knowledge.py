"""What rules and losses of distillation may look at, and the two losses of every sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor

from mmdistill.core.errors import UserError


@dataclass
class Knowledge:
    """Student and teacher on a batch.

    Attributes:
        student: logits ``(B, C)``, with their graph.
        teacher: logits ``(B, C)``, without.
        labels: classes ``(B,)``.
        temperature: of the distillation.
        progress: share of the training that is done, in [0, 1].
        class_mean: the teacher's mean probabilities of each sample's class ``(B, C)``; None where
            nothing asked for them.
        index: number of each sample in its data set ``(B,)``; None where samples have none.
        student_features: recorded tensors of the student by the name of their module.
        teacher_features: alike.
    """

    student: Tensor
    teacher: Tensor
    labels: Tensor
    temperature: float = 1.0
    progress: float = 0.0
    class_mean: Tensor | None = None
    index: Tensor | None = None
    student_features: Mapping[str, Tensor] = field(default_factory=dict)
    teacher_features: Mapping[str, Tensor] = field(default_factory=dict)


def per_sample(values: Tensor, batch: int, what: str) -> Tensor:
    """The values, if there is one per sample: ``(B, 1)`` times ``(B,)`` would be ``(B, B)``.

    Args:
        values: to be looked at.
        batch: B.
        what: for the message.

    Raises:
        UserError: another shape.
    """
    if values.shape != (batch,):
        raise UserError(f'{what} must have the shape ({batch},), got {tuple(values.shape)}')
    return values


def distillation_per_sample(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``t^2 KL(teacher, student)`` at the temperature (arXiv:1503.02531), ``(B,)``.

    Args:
        student: logits ``(B, C)``.
        teacher: logits ``(B, C)``.
        temperature: t.
    """
    mine = F.log_softmax(student / temperature, -1)
    theirs = F.log_softmax(teacher / temperature, -1)
    return temperature**2 * F.kl_div(mine, theirs, reduction='none', log_target=True).sum(-1)


def cross_entropy_per_sample(student: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy with the labels, ``(B,)``.

    Args:
        student: logits ``(B, C)``.
        labels: classes ``(B,)``.
    """
    return F.cross_entropy(student, labels, reduction='none')
