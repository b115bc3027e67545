"""Mean teacher for 3D detection (arXiv:1703.01780) with fixed score thresholds: the baselines.

The teacher's boxes of the raw scene whose scores pass fixed thresholds are hard labels of the
student's strongly augmented view. Data, views, object bank and schedule are those of HSSDA.

With thresholds of a class confidence and of a predicted overlap this is the filter of 3DIoUMatch
(CVPR 2021, arXiv:2012.04355), whose thresholds for KITTI are known (class confidence 0.4, overlap
0.5 / 0.25 / 0.25 for cars, pedestrians and cyclists). Our completion: on PV-RCNN the class
confidence is the first stage's (``objectness``) and the overlap the second's final score;
``lower_half`` keeps several boxes of an object in place of the detector's own suppression. The
rest of that method's training (losses, repeats, views) is not rebuilt.
"""

from typing import Any

import torch
from mmengine.registry import MODELS as ROOT_MODELS
from torch import Tensor

from mmdistill.core.errors import UserError
from mmdistill.det3d.box_batch import BoxBatch
from mmdistill.det3d.lower_half import upper_half
from mmdistill.det3d.quality import hidden_stats
from mmdistill.det3d.score_providers import build_score
from mmdistill.det3d.semi_detector import SceneBatch, SemiDet3D
from mmdistill.registry import MODELS


@MODELS.register_module()
class MeanTeacher3D(SemiDet3D):
    """Fixed-threshold pseudo labels.

    Args:
        pseudo_filter: config of a filter over (N, S) scores and (N,) labels, for instance
            ``dict(type='mmdistill.ScoreFilter', score_thr=0.3)``. It is given the scores that its
            ``score_names`` name (``NamedScoresFilter``), otherwise ``cls``.
        lower_half: 3D overlap of boxes that compete, of which the lower half by final score is
            dropped, see :func:`upper_half`; None (default) leaves that to the detector's own
            suppression. Wants the boxes before it: ``teacher_test_cfg=dict(nms_thr=2.0)``.
        **shared: arguments of :class:`SemiDet3D`, which refuses unknown ones.

    Raises:
        UserError: a score that one view does not have, or an overlap out of range.
    """

    def __init__(
        self, *, pseudo_filter: dict, lower_half: float | None = None, **shared: Any
    ) -> None:
        super().__init__(**shared)
        self.filter = ROOT_MODELS.build(pseudo_filter)
        names = getattr(self.filter, 'score_names', ['cls'])
        if 'view_iou' in names:
            raise UserError(
                "pseudo_filter: the score 'view_iou' needs a second view of the scene, which "
                'MeanTeacher3D does not take; remove it, or use HSSDA'
            )
        self.providers = [build_score(name) for name in names]
        if lower_half is not None and not 0 < lower_half <= 1:
            raise UserError(f'lower_half must lie in (0, 1] or be None, got {lower_half}')
        self.lower_half = lower_half

    def pseudo_labels(self, scenes: SceneBatch) -> tuple[BoxBatch, None]:
        """Ground truth, and the teacher's boxes that pass the filter."""
        rows = scenes.unlabeled_rows()
        if len(rows) == 0:
            return scenes.boxes, None
        found, extra = self.teacher_predict(scenes.points.select(rows))
        scores = torch.stack([provider(found, found, extra) for provider in self.providers], -1)
        passed = self.filter(scores.flatten(0, 1), found.labels.flatten().clamp(min=0))
        kept = found.keep(passed.view(found.valid.shape))
        if self.lower_half is not None:
            kept = kept.keep(self.competing(kept))
        kept = kept.with_weights(self.unsup_weight.expand_as(kept.weights))
        samples = [scenes.samples[row] for row in rows.tolist()]
        self.pseudo_stats = hidden_stats(found, kept, scores, samples, len(self.class_names))
        return scenes.boxes + kept.scatter(rows, len(scenes.frames)), None

    def competing(self, boxes: BoxBatch) -> Tensor:
        """(B, N) the valid boxes that are left of each cluster."""
        left = torch.zeros_like(boxes.valid)
        for row, valid in enumerate(boxes.valid):
            parts = (each[row][valid] for each in (boxes.boxes, boxes.labels, boxes.weights))
            left[row, valid] = upper_half(*parts, self.lower_half)
        return left
