"""Hints: the student's features become the teacher's (FitNets, arXiv:1412.6550)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from mmdistill.core.errors import UserError
from mmkd.distillation.knowledge import Knowledge
from mmkd.distillation.losses.base import DistillationLoss, recorded, same_size
from mmkd.registry import MODELS


@MODELS.register_module()
class FitNet(DistillationLoss):
    """Mean squared error of features, all along the training.

    The larger of two maps is averaged to the size of the smaller, behind the connector.

    Args:
        student_layer: of maps ``(B, C, h, w)``, tokens ``(B, L, C)`` or vectors ``(B, C)``.
        teacher_layer: alike.
        connector: brings the student's features to the teacher's width, a config or built; None:
            they have it.
        weight: see :class:`DistillationLoss`.
        warmup: alike.

    Raises:
        UserError: shapes differ.
    """

    def __init__(
        self,
        student_layer: str,
        teacher_layer: str,
        connector: Mapping[str, Any] | nn.Module | None = None,
        weight: float = 1.0,
        warmup: float = 0.0,
    ) -> None:
        super().__init__(weight, warmup)
        self.student_layers, self.teacher_layers = (student_layer,), (teacher_layer,)
        built = MODELS.build(connector) if isinstance(connector, Mapping) else connector
        self.connector = nn.Identity() if built is None else built

    def loss(self, k: Knowledge) -> Tensor:
        """Of the features."""
        mine, theirs = recorded(k, self.student_layers[0], self.teacher_layers[0])
        mine, theirs = same_size(self.connector(mine), theirs)
        if mine.shape != theirs.shape:
            raise UserError(
                f'FitNet: {self.student_layers[0]!r} of the student has features '
                f'{tuple(mine.shape)}, {self.teacher_layers[0]!r} of the teacher '
                f"{tuple(theirs.shape)}; give connector=dict(type='mmkd.ConvConnector', "
                "in_channels=..., out_channels=...), or 'mmkd.LinearConnector' for tokens and "
                'vectors'
            )
        return F.mse_loss(mine, theirs)
