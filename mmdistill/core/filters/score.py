"""Fixed thresholds: one for all classes, or one per class."""

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
        if set(score_thr) != set(class_names):
            raise UserError(
                f'score_thr must name each class once; given {sorted(score_thr)}, '
                f'classes {sorted(class_names)}'
            )
        ordered = [float(score_thr[name]) for name in class_names]
        self.register_buffer('threshold', torch.tensor(ordered))

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        """(N,) bool from (N, S) scores and (N,) labels."""
        return scores[:, 0] > self.threshold[labels]
