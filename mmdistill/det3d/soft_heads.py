"""Dense heads whose loss follows a weight per ground-truth box (HSSDA, ambiguous level).

The weight travels with its box: as an extra column through per-class splits and assigners.
An anchor therefore takes the weight of the very box it is assigned to, and background keeps
weight 1 (the official code's index arithmetic attaches it to other boxes, hssda: B1-B3).
"""

from typing import Any

import torch
from mmdet3d.models.dense_heads import Anchor3DHead
from mmengine.structures import InstanceData
from torch import Tensor

from mmdistill.core.errors import UserError
from mmdistill.registry import MODELS


class _RecordingAssigner:
    """An assigner that remembers its last result."""

    def __init__(self, assigner: Any) -> None:
        self._assigner = assigner
        self.result: Any = None

    def assign(self, *args: Any, **kwargs: Any) -> Any:
        """Assigns with the wrapped assigner."""
        self.result = self._assigner.assign(*args, **kwargs)
        return self.result


@MODELS.register_module()
class SoftAnchor3DHead(Anchor3DHead):
    """``Anchor3DHead`` with soft weights; equal to it when all weights are 1.

    Reads ``gt_instances_3d.weights`` (N,), default 1. Never writes to the given instances.

    Args:
        weight_dir: the direction loss follows the weights too (official code: False).
        loss_norm: ``'batch'`` divides by the positives of the batch (mmdet3d);
            ``'sample'`` divides each sample's loss by its own positives and by the number of
            samples (OpenPCDet, which HSSDA is built on).
        **kwargs: of ``Anchor3DHead``, which refuses unknown ones.

    Raises:
        UserError: another ``loss_norm``.
    """

    def __init__(
        self, *args: Any, weight_dir: bool = False, loss_norm: str = 'batch', **kwargs: Any
    ) -> None:
        if loss_norm not in ('batch', 'sample'):
            raise UserError(f"loss_norm must be 'batch' or 'sample', got {loss_norm!r}")
        super().__init__(*args, **kwargs)
        self.weight_dir = weight_dir
        self.loss_norm = loss_norm

    def loss_by_feat(self, *args: Any) -> dict:
        """The stock loss on copies of the instances that carry their weight as a column.

        Args:
            *args: ``cls_scores, bbox_preds, dir_cls_preds, batch_gt_instances_3d,
                batch_input_metas, batch_gt_instances_ignore``.
        """
        maps, instances, rest = args[:3], args[3], args[4:]
        device = maps[0][0].device
        weighted = [_with_weight_column(each, self.box_code_size, device) for each in instances]
        return super().loss_by_feat(*maps, weighted, *rest)

    def anchor_target_single_assigner(
        self,
        bbox_assigner: Any,
        anchors: Tensor,
        gt_instance_3d: InstanceData,
        *args: Any,
        **kwargs: Any,
    ) -> tuple:
        """Stock targets, with label and box weights of positives scaled by their box's weight."""
        carried = gt_instance_3d.bboxes_3d
        plain = InstanceData(
            bboxes_3d=carried[:, : self.box_code_size], labels_3d=gt_instance_3d.labels_3d
        )
        recorder = _RecordingAssigner(bbox_assigner)
        targets = super().anchor_target_single_assigner(recorder, anchors, plain, *args, **kwargs)
        labels, label_weights, box_targets, box_weights, dir_targets, dir_weights, pos, neg = (
            targets
        )
        if len(pos) > 0:
            weight = carried[recorder.result.gt_inds[pos] - 1, self.box_code_size]
            label_weights[pos] *= weight
            box_weights[pos] *= weight[:, None]
            if self.weight_dir:
                dir_weights[pos] *= weight
        return labels, label_weights, box_targets, box_weights, dir_targets, dir_weights, pos, neg

    def anchor_target_3d(self, *args: Any, **kwargs: Any) -> tuple | None:
        """Stock targets of the batch, renormalised per sample when ``loss_norm='sample'``."""
        targets = super().anchor_target_3d(*args, **kwargs)
        if targets is None or self.loss_norm == 'batch':
            return targets
        labels, label_weights, box_targets, box_weights, dir_targets, dir_weights, pos, neg = (
            targets
        )
        positives = sum(
            ((each >= 0) & (each < self.num_classes)).flatten(1).sum(1) for each in labels
        )
        total = pos + neg if self.sampling else pos
        factor = total / (positives.clamp(min=1) * len(positives))
        scaled = [
            [each * factor.view(-1, *[1] * (each.dim() - 1)) for each in levels]
            for levels in (label_weights, box_weights, dir_weights)
        ]
        return labels, scaled[0], box_targets, scaled[1], dir_targets, scaled[2], pos, neg


def _with_weight_column(instances: InstanceData, code_size: int, device: Any) -> InstanceData:
    """New instances whose boxes are (N, code_size + 1) tensors, the weight in the last column."""
    boxes = instances.bboxes_3d
    boxes = boxes if isinstance(boxes, Tensor) else boxes.tensor
    boxes = boxes.to(device)[:, :code_size]
    weights = instances.get('weights', None)
    weights = boxes.new_ones(len(boxes)) if weights is None else weights.to(boxes)
    return InstanceData(
        bboxes_3d=torch.cat([boxes, weights[:, None]], 1),
        labels_3d=instances.labels_3d.to(device),
    )


SOFT_HEADS = {
    'Anchor3DHead': 'mmdistill.SoftAnchor3DHead',
    'CenterHead': 'mmdistill.SoftCenterHead',
    'SoftCenterHead': 'mmdistill.SoftCenterHead',
}
"""Heads that are exchanged for their soft-weighted kind when a detector becomes a student."""
