"""What the rules have in common."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from mmkd.distillation.knowledge import Knowledge

Weights = tuple[Tensor, Tensor]
"""Of distillation and of the labels, ``(B,)`` each."""


class SampleWeighter(nn.Module):
    """Weights a, b of every sample in ``mean_i(a_i t^2 KL_i + b_i CE_i)``.

    Attributes:
        needs_class_mean: reads :attr:`Knowledge.class_mean`.
        needs_index: reads :attr:`Knowledge.index`.
        learned: by which loss its parameters are learned: None, it has none; ``'training'``, the
            loss above; ``'meta'``, that of held-out samples after a step of the student.
    """

    needs_class_mean: ClassVar[bool] = False
    needs_index: ClassVar[bool] = False
    learned: Literal['training', 'meta'] | None = None

    def forward(self, k: Knowledge) -> Weights:
        """The weights of a batch."""
        raise NotImplementedError


def everywhere(k: Knowledge, value: float) -> Tensor:
    """One number for all samples ``(B,)``, in 32 bits at least."""
    dtype = torch.promote_types(k.student.dtype, torch.float32)
    return torch.full((len(k.student),), value, dtype=dtype, device=k.student.device)
