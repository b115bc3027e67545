"""Attention transfer: where the features are large (AT, arXiv:1612.03928)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdistill.core.errors import UserError
from mmkd.distillation.knowledge import Knowledge
from mmkd.distillation.losses.base import (
    DistillationLoss,
    recorded,
    same_size,
    single_precision,
)
from mmkd.registry import MODELS


def attention(features: Tensor) -> Tensor:
    """Sum of squares over channels at every position, of length 1 for every sample: ``(B, L)``.

    Args:
        features: maps ``(B, C, h, w)`` or tokens ``(B, L, C)``; those of a sample that are all 0
            stay 0.
    """
    channels = 1 if features.dim() == 4 else -1
    return F.normalize(single_precision(features).square().sum(channels).flatten(1))


@MODELS.register_module()
class AttentionTransfer(DistillationLoss):
    """Mean squared difference of :func:`attention`, summed over pairs of layers.

    Squares and means, as in the authors' code; weights around 1000 are usual. The larger of two
    maps is averaged to the size of the smaller first.

    Args:
        student_layers: names, from input to output.
        teacher_layers: as many.
        weight: see :class:`DistillationLoss`.
        warmup: alike.

    Raises:
        UserError: other numbers of layers, features without positions, or other numbers of
            positions.
    """

    def __init__(
        self,
        student_layers: Sequence[str],
        teacher_layers: Sequence[str],
        weight: float = 1.0,
        warmup: float = 0.0,
    ) -> None:
        super().__init__(weight, warmup)
        self.student_layers, self.teacher_layers = tuple(student_layers), tuple(teacher_layers)
        if len(self.student_layers) != len(self.teacher_layers) or not self.student_layers:
            raise UserError(
                'AttentionTransfer: student_layers and teacher_layers are lists of the same '
                f'length, one name at least; got {student_layers!r} and {teacher_layers!r}'
            )

    def loss(self, k: Knowledge) -> Tensor:
        """Of the features."""
        names = zip(self.student_layers, self.teacher_layers, strict=True)
        return torch.stack([self._pair(k, *each) for each in names]).sum()

    @staticmethod
    def _pair(k: Knowledge, student_layer: str, teacher_layer: str) -> Tensor:
        """The loss of one pair of layers."""
        mine, theirs = same_size(*recorded(k, student_layer, teacher_layer))
        shapes = (
            f'{student_layer!r} of the student has {tuple(mine.shape)}, {teacher_layer!r} of the '
            f'teacher {tuple(theirs.shape)}'
        )
        if mine.dim() not in (3, 4) or theirs.dim() not in (3, 4):
            raise UserError(f'AttentionTransfer needs (B, C, h, w) or (B, L, C); {shapes}')
        mine, theirs = attention(mine), attention(theirs)
        if mine.shape != theirs.shape:
            raise UserError(f'AttentionTransfer needs as many positions on both sides; {shapes}')
        return F.mse_loss(mine, theirs)
