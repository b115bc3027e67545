"""PV-RCNN's heads whose losses follow a weight per ground-truth box (HSSDA, ambiguous level).

First stage: the anchors' weights of :mod:`mmdistill.det3d.soft_heads`. Second stage: a RoI takes
the weight of the box that it is assigned to, in classification and regression; background RoIs
keep 1, whatever boxes there are (official code: that of the first box of their class, hssda: B3).
Losses are divided by numbers of RoIs, not by sums of weights, so each is linear in each weight.
"""

from collections.abc import Mapping
from typing import Any

import torch
from mmdet3d.models.dense_heads import PartA2RPNHead
from mmdet3d.models.roi_heads.mask_heads import ForegroundSegmentationHead
from mmdet3d.structures import Det3DDataSample
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from mmdistill.core.errors import UserError
from mmdistill.det3d.objectness import ObjectnessRoIHead, UnsuppressedBBoxHead
from mmdistill.det3d.soft_heads import SoftAnchor3DHead
from mmdistill.registry import MODELS


@MODELS.register_module()
class SoftPartA2RPNHead(SoftAnchor3DHead, PartA2RPNHead):
    """``PartA2RPNHead`` with soft weights; arguments are those of both bases."""


@MODELS.register_module()
class SoftPVRCNNRoIHead(ObjectnessRoIHead):
    """``PVRCNNRoiHead`` with soft weights; equal to it when all weights are 1.

    Reads ``gt_instances_3d.weights`` (N,), default 1. Never writes to the given samples (the
    host replaces their boxes by tensors), and takes samples without boxes beside others.

    Args:
        bbox_head: config of a ``PVRCNNBBoxHead``, built as its soft kind.
        semantic_head: config of a ``ForegroundSegmentationHead``, built as its soft kind.
        weight_corner: the corner loss follows the weights too (official code: False).
        weight_keypoints: so does the segmentation of keypoints (official code: False).
        **kwargs: of ``PVRCNNRoiHead``, which refuses unknown ones.
    """

    def __init__(
        self,
        *,
        bbox_head: Mapping,
        semantic_head: Mapping,
        weight_corner: bool = False,
        weight_keypoints: bool = False,
        **kwargs: Any,
    ) -> None:
        bbox_head = dict(bbox_head, type='mmdistill.SoftPVRCNNBBoxHead')
        semantic_head = dict(semantic_head, type='mmdistill.SoftForegroundHead')
        super().__init__(
            bbox_head=ConfigDict(bbox_head, weight_corner=weight_corner),
            semantic_head=ConfigDict(semantic_head, weight_keypoints=weight_keypoints),
            **kwargs,
        )

    def loss(
        self, feats_dict: dict, rpn_results_list: list[InstanceData], batch_data_samples: list
    ) -> dict[str, Tensor]:
        """The host's losses on copies of the samples; arguments are the host's."""
        copies = [_with_weights(sample) for sample in batch_data_samples]
        return super().loss(feats_dict, rpn_results_list, copies)

    def _assign_and_sample(
        self, proposal_list: list[InstanceData], batch_gt_instances_3d: list[InstanceData]
    ) -> list:
        """The host's RoIs, each foreground one with the weight of its box (``pos_weights``)."""
        results = super()._assign_and_sample(proposal_list, batch_gt_instances_3d)
        for result, instances in zip(results, batch_gt_instances_3d, strict=True):
            owner = result.pos_assigned_gt_inds
            result.pos_gt_bboxes = instances.bboxes_3d[owner]  # mmdet: four columns without boxes
            result.pos_weights = instances.weights[owner]
        return results


@MODELS.register_module()
class SoftPVRCNNBBoxHead(UnsuppressedBBoxHead):
    """``PVRCNNBBoxHead`` whose RoIs have the weights of their boxes.

    Args:
        *args: of ``PVRCNNBBoxHead``.
        weight_corner: see :class:`SoftPVRCNNRoIHead`.
        **kwargs: of ``PVRCNNBBoxHead``.
    """

    def __init__(self, *args: Any, weight_corner: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.weight_corner = weight_corner

    def get_targets(self, sampling_results: list, rcnn_train_cfg: Mapping) -> tuple[Tensor, ...]:
        """The host's targets, weights of foreground RoIs scaled after their normalisation."""
        labels, box_targets, pos_gt_boxes, is_positive, label_weights, box_weights = (
            super().get_targets(sampling_results, rcnn_train_cfg)
        )
        parts = [
            part
            for result in sampling_results
            for part in (result.pos_weights, label_weights.new_ones(len(result.neg_inds)))
        ]
        weights = torch.cat(parts)
        if self.weight_corner:
            owned = torch.cat([result.pos_weights for result in sampling_results])
            pos_gt_boxes = torch.cat([pos_gt_boxes, owned[:, None]], 1)
        return (
            labels,
            box_targets,
            pos_gt_boxes,
            is_positive,
            label_weights * weights,
            box_weights * weights,
        )

    def get_corner_loss_lidar(
        self, pred_bbox3d: Tensor, gt_bbox3d: Tensor, delta: float = 1.0
    ) -> Tensor:
        """The host's (N,) corner losses, times the eighth column of the true boxes if any."""
        losses = super().get_corner_loss_lidar(pred_bbox3d, gt_bbox3d[:, :7], delta)
        return losses * gt_bbox3d[:, 7] if gt_bbox3d.shape[1] > 7 else losses


@MODELS.register_module()
class SoftForegroundHead(ForegroundSegmentationHead):
    """``ForegroundSegmentationHead`` whose keypoints may have the weights of their boxes.

    Args:
        *args: of ``ForegroundSegmentationHead``.
        weight_keypoints: see :class:`SoftPVRCNNRoIHead`.
        **kwargs: of ``ForegroundSegmentationHead``.
    """

    def __init__(self, *args: Any, weight_keypoints: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.weight_keypoints = weight_keypoints

    def get_targets(
        self, points_bxyz: Tensor, batch_gt_instances_3d: list[InstanceData]
    ) -> dict[str, Tensor]:
        """The host's targets; with ``weight_keypoints`` also (P,) ``seg_weights``."""
        targets = super().get_targets(points_bxyz, batch_gt_instances_3d)
        if not self.weight_keypoints:
            return targets
        weights = torch.ones_like(points_bxyz[:, 0])
        for row, instances in enumerate(batch_gt_instances_3d):
            here = (points_bxyz[:, 0] == row).nonzero().squeeze(1)
            owner = instances.bboxes_3d.points_in_boxes_part(points_bxyz[here, 1:]).long()
            inside = owner >= 0
            weights[here[inside]] = instances.weights[owner[inside]]
        return dict(targets, seg_weights=weights)

    def loss(self, semantic_results: dict, semantic_targets: dict) -> dict[str, Tensor]:
        """The host's loss, or the same sum with each keypoint's weight."""
        if 'seg_weights' not in semantic_targets:
            return super().loss(semantic_results, semantic_targets)
        targets = semantic_targets['seg_targets']
        foreground = targets > 0
        share = (targets >= 0).float() / foreground.sum(0).float().clamp(min=1.0)
        loss = self.loss_seg(
            semantic_results['seg_preds'].sigmoid(),
            (~foreground).long(),
            share * semantic_targets['seg_weights'],
        )
        return dict(loss_semantic=loss)


def _with_weights(sample: Det3DDataSample) -> Det3DDataSample:
    """A new sample with the boxes, labels and weights of another."""
    given = sample.gt_instances_3d
    weights = given.get('weights', None)
    if weights is None:
        weights = given.bboxes_3d.tensor.new_ones(len(given.labels_3d))
    made = Det3DDataSample()
    made.gt_instances_3d = InstanceData(
        bboxes_3d=given.bboxes_3d, labels_3d=given.labels_3d, weights=weights
    )
    return made


SOFT_PARTS = {
    'type': {'PointVoxelRCNN': 'mmdistill.PVRCNN', 'PVRCNN': 'mmdistill.PVRCNN'},
    'rpn_head': {'PartA2RPNHead': 'mmdistill.SoftPartA2RPNHead'},
    'roi_head': {'PVRCNNRoiHead': 'mmdistill.SoftPVRCNNRoIHead'},
}
"""What is exchanged when a two-stage detector becomes a student."""
ROI_OPTIONS = ('weight_corner', 'weight_keypoints')


def soft_two_stage(detector: ConfigDict, head_cfg: Mapping) -> ConfigDict:
    """A two-stage detector's config with both heads exchanged for their soft-weighted kinds.

    Args:
        detector: config with ``rpn_head`` and ``roi_head``; it is changed and returned.
        head_cfg: ``weight_corner`` and ``weight_keypoints`` of the RoI head; all else goes to the
            first stage (``weight_dir``, ``loss_norm``).

    Raises:
        UserError: a part without a soft-weighted kind; the message names it.
    """
    for key, soft_of in SOFT_PARTS.items():
        part = detector if key == 'type' else detector.get(key, {})
        kind = str(part.get('type')).split('.')[-1]
        if kind not in soft_of:
            raise UserError(
                f'two-stage detector with {key} {kind!r}: it has no soft-weighted kind; '
                f'supported: PV-RCNN ({", ".join(sorted(soft_of))})'
            )
        part['type'] = soft_of[kind]
    for key, value in head_cfg.items():
        detector['roi_head' if key in ROI_OPTIONS else 'rpn_head'][key] = value
    return detector
