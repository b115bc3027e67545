"""Relational knowledge distillation (RKD, arXiv:1904.05068)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdistill.core.errors import UserError
from mmkd.distillation.knowledge import Knowledge
from mmkd.distillation.losses.base import DistillationLoss, recorded, single_precision
from mmkd.registry import MODELS


def relative_distances(points: Tensor) -> Tensor:
    """Distances over their mean over pairs of different points, ``(N, N)``.

    The gradient of a distance of 0 is 0.

    Args:
        points: ``(N, D)``.
    """
    found = torch.cdist(points, points, compute_mode='donot_use_mm_for_euclid_dist')
    mean = found.sum() / max(1, len(points) * (len(points) - 1))
    return found / mean.masked_fill(mean == 0, math.inf)


def angles(points: Tensor) -> Tensor:
    """Cosines of the angles at every point between any two others, ``(N, N, N)``.

    Entry ``(j, i, k)`` is the angle at j from i to k; 0 where a side has no length, without
    gradient. Takes memory for ``N^2 (N + D)`` numbers.

    Args:
        points: ``(N, D)``.
    """
    sides = points[None] - points[:, None]
    length = sides.norm(dim=-1, keepdim=True)
    units = sides / length.masked_fill(length == 0, math.inf)
    return units @ units.transpose(1, 2)


@MODELS.register_module()
class RKD(DistillationLoss):
    """Huber loss between the geometry of the student's and of the teacher's batch.

    Means are over all ``N^2`` pairs and all ``N^3`` triplets, as in the authors' code, for which
    the weights 25 and 50 are. Widths may differ: nothing is compared but distances and angles.

    Args:
        distance: weight of :func:`relative_distances`.
        angle: weight of :func:`angles`.
        student_layer: whose output, flattened, is the point of a sample; None: the logits are.
        teacher_layer: alike.
        weight: see :class:`DistillationLoss`.
        warmup: alike.

    Raises:
        UserError: one of the two layers is given alone.
    """

    def __init__(
        self,
        distance: float = 25.0,
        angle: float = 50.0,
        student_layer: str | None = None,
        teacher_layer: str | None = None,
        weight: float = 1.0,
        warmup: float = 0.0,
    ) -> None:
        super().__init__(weight, warmup)
        if (student_layer is None) != (teacher_layer is None):
            raise UserError(
                'RKD: give student_layer and teacher_layer, or neither for the logits; got '
                f'{student_layer!r} and {teacher_layer!r}'
            )
        self.distance, self.angle = distance, angle
        if student_layer is not None and teacher_layer is not None:
            self.student_layers, self.teacher_layers = (student_layer,), (teacher_layer,)

    def loss(self, k: Knowledge) -> Tensor:
        """Of the features or the logits."""
        pair = k.student, k.teacher
        if self.student_layers:
            pair = recorded(k, self.student_layers[0], self.teacher_layers[0])
        with torch.autocast(k.student.device.type, enabled=False):
            mine, theirs = (single_precision(each.flatten(1)) for each in pair)
            total = mine.new_zeros(())
            if self.distance:
                found = relative_distances(mine), relative_distances(theirs)
                total = total + self.distance * F.smooth_l1_loss(*found)
            if self.angle:
                total = total + self.angle * F.smooth_l1_loss(angles(mine), angles(theirs))
        return total
