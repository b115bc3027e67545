"""mmdet3d's detectors as a teacher-student method sees them: soft heads, test settings, boxes.

Single-stage detectors have their boxes from ``bbox_head`` or ``pts_bbox_head``, two-stage ones from
``roi_head``; what differs between them is known here and nowhere else.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from mmdistill.core.errors import UserError
from mmdistill.det3d.box_batch import BoxBatch
from mmdistill.det3d.soft_heads import SOFT_HEADS
from mmdistill.det3d.soft_roi_heads import soft_two_stage
from mmdistill.det3d.views import wrap_angle

EXTRA_SCORES = ('roi_scores_3d', 'peak_scores_3d')
"""Scores beside the classification's that a detector's predictions may carry."""


def soft_detector(detector: Mapping, head_cfg: Mapping) -> ConfigDict:
    """A copy of a detector config with its dense head exchanged for the soft-weighted kind.

    Raises:
        UserError: the head has no soft-weighted kind.
    """
    detector = ConfigDict(copy.deepcopy(dict(detector)))
    if 'roi_head' in detector:
        return soft_two_stage(detector, head_cfg)
    key = next((each for each in ('bbox_head', 'pts_bbox_head') if each in detector), None)
    kind = str(detector[key]['type']).split('.')[-1] if key else None
    if kind not in SOFT_HEADS:
        raise UserError(
            f'detector head {kind!r} has no soft-weighted kind; supported: detectors with an '
            f'{" or ".join(sorted(SOFT_HEADS))}, such as PointPillars, SECOND and CenterPoint'
        )
    detector[key] = {**detector[key], 'type': SOFT_HEADS[kind], **head_cfg}
    return detector


def dense_head(detector: Any) -> Any:
    """The head that gives a detector's boxes: ``roi_head``, ``bbox_head`` or ``pts_bbox_head``."""
    heads = (getattr(detector, key, None) for key in ('roi_head', 'bbox_head', 'pts_bbox_head'))
    return next(head for head in heads if head is not None)


def box_numbers(head: Any) -> int:
    """Numbers of a box that a head learns: 7, or 9 with the velocity."""
    return getattr(getattr(head, 'bbox_coder', None), 'code_size', 7)


def predicted_boxes(found: Sequence[InstanceData], like: Tensor) -> BoxBatch:
    """Predictions of a batch as padded boxes, yaw wrapped; ``weights`` are the scores."""
    boxes = BoxBatch.from_lists(
        [each.bboxes_3d.tensor.to(like) for each in found],
        [each.labels_3d for each in found],
        [each.scores_3d for each in found],
    )
    before, yaw, further = boxes.boxes.tensor_split((6, 7), -1)
    return boxes.with_boxes(torch.cat([before, wrap_angle(yaw), further], -1))


@contextmanager
def changed_test_cfg(detector: Any, changes: Mapping) -> Iterator[None]:
    """Overrides entries of the dense head's ``test_cfg`` while the context is open."""
    head = dense_head(detector)
    before = head.test_cfg
    head.test_cfg = copy.copy(before)
    head.test_cfg.update(changes)
    try:
        yield
    finally:
        head.test_cfg = before


def as_sample(boxes: Tensor, labels: Tensor, weights: Tensor, meta: dict) -> Det3DDataSample:
    """A new data sample with boxes, labels and soft weights for the student's head."""
    instances = InstanceData()
    instances.bboxes_3d = LiDARInstance3DBoxes(boxes, box_dim=boxes.shape[-1])
    instances.labels_3d = labels
    instances.weights = weights
    sample = Det3DDataSample(metainfo=dict(box_type_3d=LiDARInstance3DBoxes))
    sample.set_metainfo({'sample_idx': meta['sample_idx']})
    sample.gt_instances_3d = instances
    return sample
