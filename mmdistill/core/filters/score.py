"""Fixed thresholds: one for all classes, one per class, or some per score."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mmdistill.core.errors import UserError
from mmdistill.registry import MODELS


@MODELS.register_module()
class ScoreFilter(nn.Module):
    """Keeps predictions whose first score exceeds one threshold.

    Args:
        score_thr: the threshold.
    """

    def __init__(self, score_thr: float) -> None:
        super().__init__()
        self.register_buffer('threshold', torch.tensor(float(score_thr)))

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        """(N,) bool from (N, S) scores and (N,) labels."""
        return scores[:, 0] > self.threshold


@MODELS.register_module()
class PerClassFilter(nn.Module):
    """Keeps predictions whose first score exceeds the threshold of their class.

    Args:
        score_thr: threshold per class name.
        class_names: class names in label order.

    Raises:
        UserError: a class without a threshold or an unknown class.
    """

    def __init__(self, score_thr: Mapping[str, float], class_names: Sequence[str]) -> None:
        super().__init__()
        ordered = _per_class('score_thr', score_thr, class_names)
        self.register_buffer('threshold', torch.tensor(ordered))

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        """(N,) bool from (N, S) scores and (N,) labels."""
        return scores[:, 0] > self.threshold[labels]


@MODELS.register_module()
class NamedScoresFilter(nn.Module):
    """Keeps predictions that exceed the threshold of every score.

    Args:
        score_thr: by score name, in the order of the columns of ``scores``: one threshold, or
            one per class name.
        class_names: class names in label order.

    Raises:
        UserError: no score, a class without a threshold or an unknown class.
    """

    def __init__(
        self, score_thr: Mapping[str, float | Mapping[str, float]], class_names: Sequence[str]
    ) -> None:
        super().__init__()
        if not score_thr:
            raise UserError('score_thr must name at least one score')
        self.score_names = list(score_thr)
        rows = [
            _per_class(f'score_thr.{name}', given, class_names)
            if isinstance(given, Mapping)
            else [float(given)] * len(class_names)
            for name, given in score_thr.items()
        ]
        self.register_buffer('threshold', torch.tensor(rows))

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        """(N,) bool from (N, S) scores and (N,) labels."""
        return (scores > self.threshold.T[labels]).all(1)


def _per_class(key: str, given: Mapping[str, float], class_names: Sequence[str]) -> list[float]:
    """Thresholds in label order.

    Raises:
        UserError: a class without a threshold or an unknown class.
    """
    if set(given) != set(class_names):
        raise UserError(
            f'{key} must name each class once; given {sorted(given)}, classes {sorted(class_names)}'
        )
    return [float(given[name]) for name in class_names]
