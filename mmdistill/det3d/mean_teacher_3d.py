"""Mean teacher for 3D detection (arXiv:1703.01780) with a fixed score threshold: the baseline.

The teacher's boxes of the raw scene whose score passes one threshold are hard labels of the
student's strongly augmented view. Data, views, object bank and schedule are those of HSSDA.
"""

from typing import Any

from mmengine.registry import MODELS as ROOT_MODELS

from mmdistill.det3d.box_batch import BoxBatch
from mmdistill.det3d.quality import hidden_stats
from mmdistill.det3d.semi_detector import SceneBatch, SemiDet3D
from mmdistill.registry import MODELS


@MODELS.register_module()
class MeanTeacher3D(SemiDet3D):
    """Fixed-threshold pseudo labels.

    Args:
        pseudo_filter: config of a filter over (N,) scores and labels, for instance
            ``dict(type='mmdistill.ScoreFilter', score_thr=0.3)``.
        **shared: arguments of :class:`SemiDet3D`, which refuses unknown ones.
    """

    def __init__(self, *, pseudo_filter: dict, **shared: Any) -> None:
        super().__init__(**shared)
        self.filter = ROOT_MODELS.build(pseudo_filter)

    def pseudo_labels(self, scenes: SceneBatch) -> tuple[BoxBatch, None]:
        """Ground truth, and the teacher's boxes that pass the filter."""
        rows = scenes.unlabeled_rows()
        if len(rows) == 0:
            return scenes.boxes, None
        found, _ = self.teacher_predict(scenes.points.select(rows))
        passed = self.filter(found.weights.flatten()[:, None], found.labels.flatten().clamp(min=0))
        kept = found.keep(passed.view(found.valid.shape))
        kept = kept.with_weights(self.unsup_weight.expand_as(kept.weights))
        samples = [scenes.samples[row] for row in rows.tolist()]
        scores = found.weights[..., None]
        self.pseudo_stats = hidden_stats(found, kept, scores, samples, len(self.class_names))
        return scenes.boxes + kept.scatter(rows, len(scenes.frames)), None
