"""What a pseudo-label filter is, and what a method reports about its pseudo labels."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class PseudoFilter(Protocol):
    """Decides which predictions become labels; thresholds live in buffers."""

    def __call__(self, scores: Tensor, labels: Tensor) -> Tensor:
        """(N,) bool from (N, S) scores and (N,) class indices."""
        ...


@dataclass
class PseudoStats:
    """Counts of one step, left by a method as ``model.pseudo_stats``; small tensors, no sync.

    Attributes:
        kept: (C,) predictions used as labels.
        total: (C,) predictions of the teacher.
        true_positive: (C,) kept ones that match hidden ground truth, or None.
        hidden: (C,) hidden ground-truth objects, or None.
        scores: (n,) scores of all predictions, for the distribution, or None.
    """

    kept: Tensor
    total: Tensor
    true_positive: Tensor | None = None
    hidden: Tensor | None = None
    scores: Tensor | None = None
