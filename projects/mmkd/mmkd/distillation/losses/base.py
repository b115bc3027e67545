"""What the losses have in common: their weight, and how they come by features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdistill.core.errors import UserError
from mmkd.distillation.knowledge import Knowledge


class DistillationLoss(nn.Module):
    """A loss between student and teacher; subclasses say which by :meth:`loss`.

    Args:
        weight: of the loss.
        warmup: share of the training over which the weight rises linearly from 0.

    Attributes:
        student_layers: modules of the student whose outputs it reads.
        teacher_layers: alike.

    Raises:
        UserError: ``warmup`` is no share.
    """

    student_layers: tuple[str, ...] = ()
    teacher_layers: tuple[str, ...] = ()

    def __init__(self, weight: float = 1.0, warmup: float = 0.0) -> None:
        super().__init__()
        if not 0 <= warmup <= 1:
            raise UserError(
                f'{type(self).__name__}: warmup is a share of the training in [0, 1], got {warmup}'
            )
        self.weight, self.warmup = weight, warmup

    def forward(self, k: Knowledge) -> Tensor:
        """The loss with its weight, a scalar."""
        share = min(1.0, k.progress / self.warmup) if self.warmup else 1.0
        return self.weight * share * self.loss(k)

    def loss(self, k: Knowledge) -> Tensor:
        """The loss without its weight, a scalar."""
        raise NotImplementedError


def recorded(k: Knowledge, student_layer: str, teacher_layer: str) -> tuple[Tensor, Tensor]:
    """Outputs of a layer of the student and one of the teacher.

    Raises:
        UserError: one was not recorded.
    """
    sides = (
        ('student', k.student_features, student_layer),
        ('teacher', k.teacher_features, teacher_layer),
    )
    for who, features, layer in sides:
        if layer not in features:
            raise UserError(
                f'layer {layer!r} of the {who} gave no features: it did not run in this pass; '
                f'recorded: {sorted(features)}'
            )
    return k.student_features[student_layer], k.teacher_features[teacher_layer]


def same_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Maps ``(B, C, h, w)``, the larger averaged to the height and width of the smaller.

    Other tensors stay as they are.
    """
    if student.dim() != 4 or teacher.dim() != 4:
        return student, teacher
    size = tuple(map(min, student.shape[2:], teacher.shape[2:]))

    def pooled(each: Tensor) -> Tensor:
        return each if each.shape[2:] == size else F.adaptive_avg_pool2d(each, size)

    return pooled(student), pooled(teacher)


def single_precision(values: Tensor) -> Tensor:
    """The values, in 32 bits at least: squares and distances do not fit into 16."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
