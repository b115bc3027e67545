"""What HSSDA asks of a second stage beyond its final boxes: proposals' scores, boxes before NMS.

The host's RoI head forgets from which proposal a box came, and shows only what its last
non-maximum suppression leaves. These heads predict the same boxes and tell both.
"""

from typing import Any

import torch
from mmdet3d.models.roi_heads import PVRCNNRoiHead
from mmdet3d.models.roi_heads.bbox_heads import PVRCNNBBoxHead
from mmengine.structures import InstanceData
from torch import Tensor

from mmdistill.registry import MODELS


@MODELS.register_module()
class ObjectnessRoIHead(PVRCNNRoiHead):
    """``PVRCNNRoiHead`` whose predictions carry ``roi_scores_3d``.

    (N,) objectness: the sigmoid of the first stage's largest class logit of the proposal that
    each final box was refined from (hssda 1.0).
    """

    def predict(
        self, feats_dict: dict, rpn_results_list: list[InstanceData], *args: Any, **kwargs: Any
    ) -> list[InstanceData]:
        """The host's boxes; proposals pass it with their number for a label.

        Args:
            feats_dict: features of the points.
            rpn_results_list: proposals per sample; ``bboxes_3d``, ``scores_3d``, ``labels_3d``.
            *args: of ``PVRCNNRoiHead.predict``.
            **kwargs: likewise.
        """
        numbered = [
            InstanceData(
                bboxes_3d=each.bboxes_3d,
                labels_3d=torch.arange(len(each), device=each.scores_3d.device),
            )
            for each in rpn_results_list
        ]
        results = super().predict(feats_dict, numbered, *args, **kwargs)
        for result, proposals in zip(results, rpn_results_list, strict=True):
            for found in (result, result.metainfo.get('before_nms')):
                if found is not None:
                    source = found.labels_3d
                    found.labels_3d = proposals.labels_3d[source].long()
                    found.roi_scores_3d = proposals.scores_3d[source]
        return results


@MODELS.register_module()
class UnsuppressedBBoxHead(PVRCNNBBoxHead):
    """``PVRCNNBBoxHead`` that also gives the boxes before the last suppression, on request.

    With ``keep_before_nms=True`` in its test config every result has the meta entry
    ``before_nms``: all boxes above ``score_thr``, with the fields of the result.
    """

    _suppressing: list[tuple[Tensor, Tensor]] | None = None

    def get_results(
        self,
        rois: Tensor,
        cls_preds: Tensor,
        bbox_reg: Tensor,
        class_labels: list[Tensor],
        input_metas: list[dict],
        test_cfg: Any = None,
    ) -> list[InstanceData]:
        """The host's results, the boxes before NMS attached; arguments are the host's."""
        self._suppressing = before = []
        try:
            given = (rois, cls_preds, bbox_reg, class_labels, input_metas, test_cfg)
            results = super().get_results(*given)
        finally:
            self._suppressing = None
        if not test_cfg.get('keep_before_nms', False):
            return results
        for row, (scores, boxes) in enumerate(before):
            passed = scores >= (test_cfg.score_thr or 0.0)
            kind = input_metas[row]['box_type_3d']
            every = InstanceData(
                bboxes_3d=kind(boxes[passed], self.bbox_coder.code_size),
                scores_3d=scores[passed],
                labels_3d=class_labels[row][passed],
            )
            results[row].set_metainfo(dict(before_nms=every))
        return results

    def class_agnostic_nms(
        self, scores: Tensor, bbox_preds: Tensor, nms_cfg: Any, input_meta: dict
    ) -> Tensor:
        """The host's choice of a sample's boxes; remembers what it chose from."""
        if self._suppressing is not None:
            self._suppressing.append((scores, bbox_preds))
        return super().class_agnostic_nms(scores, bbox_preds, nms_cfg, input_meta)
