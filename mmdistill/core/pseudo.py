"""What a pseudo-label filter is, and what a method reports about its pseudo labels."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class PseudoFilter(Protocol):
    """Decides which predictions become labels.

    Filters are ``nn.Module`` objects whose thresholds are buffers, so that they are saved,
    moved and broadcast with the model. They keep working on zero predictions.
    """

    def __call__(self, scores: Tensor, labels: Tensor) -> Tensor:
        """(N,) bool from (N, S) scores and (N,) class indices."""
        ...


@dataclass
class PseudoStats:
    """Counts of one training step, for :class:`mmdistill.core.hooks.PseudoQualityHook`.

    A method leaves one as ``model.pseudo_stats`` in ``loss``; the hook takes it away after the
    step. Tensors stay on the device of the model and detached; nothing here may wait for it.
    A step without unlabelled data leaves None.

    ``true_positive`` and ``hidden`` are given when ground truth that training must not read is
    known for *all* unlabelled samples of the step; a method reads it for nothing else.

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
