"""Losses between the signals of student and teacher: TernaryBERT's, and the attention output's.

All means are over all positions, padding included, as published; L layers, so sums over layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

HIDDEN_SCORE = -100.0
"""Scores at or below it belong to padding."""


def prediction_loss(student: Tensor, teacher: Tensor, regression: bool = False) -> Tensor:
    """Cross entropy with the teacher's probabilities; the squared error of a regression.

    Args:
        student: logits ``(B, C)``.
        teacher: logits ``(B, C)``.
        regression: the logits are values.
    """
    if regression:
        return F.mse_loss(student, teacher)
    return F.cross_entropy(student, teacher.softmax(-1))


def layer_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Sum over layers of mean squared errors.

    Args:
        student: one tensor per layer.
        teacher: alike.
    """
    pairs = zip(student, teacher, strict=True)
    return torch.stack([F.mse_loss(mine, theirs) for mine, theirs in pairs]).sum()


def score_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """:func:`layer_loss` of attention scores; those of padding count as 0 on both sides.

    Args:
        student: scaled and masked scores ``(B, H, n, n)`` per layer.
        teacher: alike.
    """

    def seen(scores: Tensor) -> Tensor:
        return F.threshold(scores, HIDDEN_SCORE, 0.0)

    return layer_loss([seen(each) for each in student], [seen(each) for each in teacher])


def map_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Divergence of attention maps from the teacher's, over valid queries (arXiv:2211.11014).

    Args:
        student: scaled and masked scores ``(B, H, n, n)`` per layer.
        teacher: alike.

    Returns:
        Sum over layers of KL(teacher, student), averaged over valid queries, heads and samples.
    """
    total = student[0].new_zeros(())
    for mine, theirs in zip(student, teacher, strict=True):
        valid = (theirs > HIDDEN_SCORE).any(2, keepdim=True).transpose(2, 3).to(mine.dtype)
        target = theirs.log_softmax(-1)
        found = mine.log_softmax(-1)
        known = theirs > HIDDEN_SCORE
        terms = torch.where(known, target.exp() * (target - found), torch.zeros_like(found))
        rows = (terms.sum(-1, keepdim=True) * valid).sum((2, 3)) / valid.sum((2, 3)).clamp(min=1)
        total = total + rows.mean()
    return total
