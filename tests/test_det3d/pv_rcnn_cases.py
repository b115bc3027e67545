"""What the PV-RCNN tests share: stock and soft detectors with equal weights, RoIs near boxes."""

import copy

import torch
from det3d_scenes import CLASSES, boxes_of, initialised
from mmdet3d.registry import MODELS
from mmdet3d.structures import LiDARInstance3DBoxes
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from pv_rcnn_cfg import pv_rcnn

from mmdistill.det3d.detectors import soft_detector

# classes interleaved, as they come from ground truth, mining and pasting
ROWS = [(10, 0, 2, 0.1), (6, 5, 0), (16, -6, 2, 1.5), (19, 6, 1), (4.4, -2.9, 0, 1.2), (12, 4, 2)]
WEIGHTS = [1.0, 0.3, 0.5, 0.9, 0.2, 0.7]
KEYPOINTS = 96
ROIS = 48


def build(cfg, seed=0):
    """A detector from its config, whatever scope an earlier test left."""
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope('mmdet3d'):
        return initialised(MODELS.build(ConfigDict(copy.deepcopy(dict(cfg)))))


def twins(**head_cfg):
    """The stock tiny PV-RCNN and its soft kind with the same weights."""
    stock, soft = build(pv_rcnn()), build(soft_detector(pv_rcnn(), head_cfg), seed=1)
    soft.load_state_dict(stock.state_dict(), strict=True)
    return stock, soft


def hssda_pv_rcnn(**changes):
    """HSSDA around the tiny PV-RCNN with the paper's scores; keywords replace arguments."""
    from mmdistill.det3d import HSSDA

    cfg = dict(
        detector=pv_rcnn(),
        class_names=CLASSES,
        student_view=dict(flip_prob=0.5, rotation=(-0.785, 0.785), scale=(0.95, 1.05)),
        scores=('cls', 'objectness', 'view_iou'),
        ambiguous=dict(weight=('cls', 'objectness')),
        shuffle=dict(grid=(2, 2)),
    )
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet3d'):
        return initialised(HSSDA(**{**cfg, **changes}))


def truth(rows, weights=None):
    """Ground truth with weights."""
    boxes, labels = boxes_of(rows)
    made = InstanceData(bboxes_3d=LiDARInstance3DBoxes(boxes), labels_3d=labels)
    if weights is not None:
        made.weights = torch.as_tensor(weights, dtype=torch.float32)
    return made


def proposals(rows, seed=0, near=3):
    """48 RoIs of one scene: some on every box, some beside it, the rest anywhere."""
    generator = torch.Generator().manual_seed(seed)
    boxes, labels = boxes_of(rows)
    every, kinds = [], []
    for box, label in zip(boxes, labels.tolist(), strict=True):
        for step in (0.05, 0.3):
            moved = box.repeat(near, 1)
            moved += (
                step
                * box.new_tensor([1, 1, 0.3, 0.2, 0.2, 0.2, 0.2])
                * (torch.rand(near, 7, generator=generator) - 0.5)
                * box.new_tensor([*box[3:6], *box[3:6], 1.0])
            )
            every.append(moved)
            kinds += [label] * near
    far = ROIS - len(kinds)
    scattered = boxes_of([(0, 0, k % 3) for k in range(far)])[0]
    scattered[:, :2] = torch.rand(far, 2, generator=generator) * 20 + torch.tensor([2.0, -10])
    every.append(scattered)
    kinds += [k % 3 for k in range(far)]
    count = len(kinds)
    return InstanceData(
        bboxes_3d=LiDARInstance3DBoxes(torch.cat(every)),
        labels_3d=torch.tensor(kinds),
        scores_3d=torch.rand(count, generator=generator),
        cls_preds=torch.rand(count, 3, generator=generator),
    )


def features(head, scenes, seed=0):
    """Features of random keypoints in the range, a third of them inside the boxes of ``scenes``."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for number, each in enumerate(scenes):
        xyz = torch.rand(KEYPOINTS, 3, generator=generator) * torch.tensor([24.0, 24, 2])
        xyz += torch.tensor([0.5, -12, -2])
        boxes = boxes_of(each)[0]
        if len(boxes):
            owner = torch.arange(KEYPOINTS // 3) % len(boxes)
            inner = torch.rand(len(owner), 3, generator=generator) - torch.tensor([0.5, 0.5, 0])
            xyz[: len(owner)] = boxes[owner, :3] + 0.5 * inner * boxes[owner, 3:6].amin(1)[:, None]
        rows.append(torch.cat([torch.full((KEYPOINTS, 1), float(number)), xyz], 1))
    keypoints = torch.cat(rows)
    wide = head.semantic_head.in_channels
    return dict(
        keypoints=keypoints,
        keypoint_features=torch.randn(len(keypoints), wide, generator=generator),
        fusion_keypoint_features=torch.randn(len(keypoints), 16, generator=generator),
    )
