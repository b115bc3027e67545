"""Scores by which HSSDA judges a pseudo box; each is one configurable provider.

A provider takes the teacher's boxes of the raw view, those of the augmented view mapped back
to raw coordinates, and the further scores of the detector; it returns (B, N) scores.
"""

from typing import Protocol

from torch import Tensor

from mmdistill.core.errors import UserError
from mmdistill.det3d.box_batch import BoxBatch
from mmdistill.det3d.boxes import bev_iou, iou_3d
from mmdistill.registry import TASK_UTILS


class ScoreProvider(Protocol):
    """What gives boxes a score; ``name`` is that of its thresholds."""

    name: str

    def __call__(self, boxes: BoxBatch, other: BoxBatch, extra: dict[str, Tensor]) -> Tensor:
        """(B, N) scores."""


@TASK_UTILS.register_module()
class ClsScore:
    """``cls``: classification confidence of the final prediction."""

    name = 'cls'

    def __call__(self, boxes: BoxBatch, other: BoxBatch, extra: dict[str, Tensor]) -> Tensor:
        """(B, N) scores."""
        return boxes.weights


@TASK_UTILS.register_module()
class RoIObjectness:
    """``objectness``: score of the proposal a box came from (two-stage detectors).

    Raises:
        UserError: the detector's predictions have no ``roi_scores_3d``.
    """

    name = 'objectness'

    def __call__(self, boxes: BoxBatch, other: BoxBatch, extra: dict[str, Tensor]) -> Tensor:
        """(B, N) scores."""
        if 'roi_scores_3d' not in extra:
            raise UserError(
                "score 'objectness' needs predictions with roi_scores_3d (a two-stage detector); "
                "for a single-stage detector use scores=('cls', 'view_iou')"
            )
        return extra['roi_scores_3d']


@TASK_UTILS.register_module()
class PredictedIoU:
    """``predicted_iou``: the overlap with its object that a second stage expects of a box.

    PV-RCNN has no head of its own for it: its final score is trained to be this overlap, so it is
    ``cls`` by another name.

    Raises:
        UserError: the detector's predictions come from no second stage.
    """

    name = 'predicted_iou'

    def __call__(self, boxes: BoxBatch, other: BoxBatch, extra: dict[str, Tensor]) -> Tensor:
        """(B, N) scores."""
        if 'roi_scores_3d' not in extra:
            raise UserError(
                "score 'predicted_iou' needs a two-stage detector (PV-RCNN), whose final score is "
                'trained as an overlap; a single-stage detector predicts none'
            )
        return boxes.weights


@TASK_UTILS.register_module()
class ViewIoU:
    """``view_iou``: best overlap with any box, of any class, of the other view (hssda 1.5).

    Args:
        space: ``'bev'`` or ``'3d'``.

    Raises:
        UserError: another space.
    """

    name = 'view_iou'

    def __init__(self, space: str = 'bev') -> None:
        if space not in ('bev', '3d'):
            raise UserError(f"space must be 'bev' or '3d', got {space!r}")
        self.iou = bev_iou if space == 'bev' else iou_3d

    def __call__(self, boxes: BoxBatch, other: BoxBatch, extra: dict[str, Tensor]) -> Tensor:
        """(B, N) scores."""
        if other.boxes.shape[1] == 0:
            return boxes.boxes.new_zeros(boxes.boxes.shape[:2])
        overlap = self.iou(boxes.boxes, other.boxes) * other.valid[:, None]
        return overlap.amax(-1) * boxes.valid


PROVIDERS = {
    'cls': 'ClsScore',
    'heatmap_peak': 'HeatmapPeak',
    'objectness': 'RoIObjectness',
    'predicted_iou': 'PredictedIoU',
    'view_iou': 'ViewIoU',
}


def build_score(score: str | dict) -> ScoreProvider:
    """Builds a provider from its name (``'cls'``) or config.

    Raises:
        UserError: an unknown name.
    """
    if isinstance(score, str):
        if score not in PROVIDERS:
            raise UserError(f'unknown score {score!r}; known: {sorted(PROVIDERS)}')
        score = dict(type=f'mmdistill.{PROVIDERS[score]}')
    return TASK_UTILS.build(score)
