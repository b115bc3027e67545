"""What the models have in common behind the logits."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mmdistill.core.errors import UserError


def label_loss(logits: Tensor, labels: Tensor | None) -> Tensor:
    """Cross entropy with labels; with one output the squared error.

    Args:
        logits: ``(B, C)``.
        labels: ``(B,)`` classes, or values.

    Raises:
        UserError: there are no labels.
    """
    if labels is None:
        raise UserError(
            'the batch has no labels: give the data set label=..., or the loss weight 0'
        )
    if logits.shape[-1] == 1:
        return F.mse_loss(logits.squeeze(-1), labels.to(logits))
    return F.cross_entropy(logits, labels)


def predictions(logits: Tensor, labels: Tensor | None) -> list[dict[str, Tensor | None]]:
    """Logits and labels, sample by sample, for metrics."""
    found = [None] * len(logits) if labels is None else list(labels)
    return [dict(logits=a, label=b) for a, b in zip(logits, found, strict=True)]
