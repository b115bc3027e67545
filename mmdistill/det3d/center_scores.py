"""Scores of centre-based detectors (CenterPoint) beside the classification's."""

from torch import Tensor

from mmdistill.core.errors import UserError
from mmdistill.det3d.box_batch import BoxBatch
from mmdistill.registry import TASK_UTILS


@TASK_UTILS.register_module()
class HeatmapPeak:
    """``heatmap_peak``: the heatmap of the box' class at the cell that its centre lies in.

    CenterPoint's own score (``cls``) is the heatmap at the cell that the box was read from. The
    two are equal while the offset keeps the centre in that cell; ``heatmap_peak`` is lower for a
    box that was moved away from its peak, and 0 outside the map. Because they are so much alike,
    take one of them: ``scores=('heatmap_peak', 'view_iou')``. The official code knows neither, so
    give ``thresholds.init`` a start value, for instance the 0.99 of ``cls``.

    Raises:
        UserError: the detector's predictions have no ``peak_scores_3d``.
    """

    name = 'heatmap_peak'

    def __call__(self, boxes: BoxBatch, other: BoxBatch, extra: dict[str, Tensor]) -> Tensor:
        """(B, N) scores."""
        if 'peak_scores_3d' not in extra:
            raise UserError(
                "score 'heatmap_peak' needs predictions with peak_scores_3d (a CenterPoint, whose "
                "head becomes 'mmdistill.SoftCenterHead'); for a detector with anchors use "
                "scores=('cls', 'view_iou')"
            )
        return extra['peak_scores_3d']


def heatmap_peaks(
    heatmaps: Tensor, boxes: Tensor, labels: Tensor, low: Tensor, cell: Tensor
) -> Tensor:
    """Values of class heatmaps at the cells of box centres.

    Args:
        heatmaps: (C, H, W) scores of one scene.
        boxes: (N, 7 + V) boxes in metres.
        labels: (N,) class indices.
        low: (2,) x and y of the map's first corner in metres.
        cell: (2,) size of a cell along x and y in metres.

    Returns:
        (N,) scores, 0 where a centre lies outside the map.
    """
    at = ((boxes[:, :2] - low) / cell).floor().long()
    limit = at.new_tensor([heatmaps.shape[2], heatmaps.shape[1]])
    inside = ((at >= 0) & (at < limit)).all(1)
    x, y = at.clamp(min=0).minimum(limit - 1).unbind(1)
    return heatmaps[labels.long(), y, x] * inside
