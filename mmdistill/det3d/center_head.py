"""CenterPoint's head (arXiv:2006.11275) with a soft weight per ground-truth box.

Two things are added to mmdet3d's ``CenterHead``: losses that follow the weights (HSSDA, ambiguous
level; ours for heatmaps, see :mod:`mmdistill.det3d.center_targets`), and boxes without velocity,
as KITTI has them. With all weights 1 and boxes of 9 numbers it is the host's head bit by bit.
"""

from typing import Any

import torch
from mmdet3d.models.dense_heads import CenterHead
from mmengine.structures import InstanceData
from torch import Tensor

from mmdistill.core.errors import UserError
from mmdistill.det3d.center_scores import heatmap_peaks
from mmdistill.det3d.center_targets import CenterTargets, Objects, center_targets
from mmdistill.registry import MODELS

PROBABLE = 1e-4
"""Distance that the host keeps scores from 0 and 1, where the loss has no number."""


@MODELS.register_module()
class SoftCenterHead(CenterHead):
    """``CenterHead`` with soft weights, for boxes of 7 or 9 numbers.

    Reads ``gt_instances_3d.weights`` (N,), default 1. Never writes to the given instances.

    * Heatmap: the Gaussian focal loss of a cell is multiplied by the weight of the object whose
      Gaussian is the largest there, in the map of that object's class; elsewhere by 1.
    * Boxes: all regression terms of an object are multiplied by its weight. An unknown velocity
      (NaN) is not learned.

    Predictions also carry ``peak_scores_3d``, see :class:`HeatmapPeak`.

    Args:
        normalizer: what the sums are divided by. ``'count'``: the heatmap's by the number of
            centre cells, the boxes' by the number of objects, whatever they weigh (mmdet3d, and
            HSSDA's official code for anchors): a light object has little to say. ``'weight'``: by
            the sums of their weights (the heatmap's at least 1): weights only shift attention
            between the objects of a batch.
        **kwargs: of ``CenterHead``, which refuses unknown ones. ``vel`` among ``common_heads``
            makes boxes of 9 numbers.

    Raises:
        UserError: another ``normalizer``, or a ``bbox_coder.code_size`` or number of
            ``train_cfg.code_weights`` that does not fit the heads.
    """

    def __init__(self, *args: Any, normalizer: str = 'count', **kwargs: Any) -> None:
        if normalizer not in ('count', 'weight'):
            raise UserError(f"normalizer must be 'count' or 'weight', got {normalizer!r}")
        super().__init__(*args, **kwargs)
        self.normalizer = normalizer
        self.with_velocity = 'vel' in kwargs.get('common_heads', {})
        numbers = 9 if self.with_velocity else 7
        state = 'with' if self.with_velocity else 'without'
        if self.bbox_coder.code_size != numbers:
            raise UserError(
                f'bbox_coder.code_size is {self.bbox_coder.code_size}, but boxes {state} vel in '
                f'common_heads have {numbers} numbers: set code_size={numbers}'
            )
        weights = (self.train_cfg or {}).get('code_weights')
        if weights is not None and len(weights) != numbers + 1:
            raise UserError(
                f'train_cfg.code_weights has {len(weights)} numbers, but boxes {state} vel in '
                f'common_heads are learned as {numbers + 1}: two of the offset, height, three '
                'of the size, sine and cosine of the yaw' + ', velocity' * self.with_velocity
            )

    def get_targets(self, batch_gt_instances_3d: list[InstanceData]) -> list[CenterTargets]:
        """Targets of every task, with weights.

        Raises:
            UserError: boxes have fewer numbers than the head learns.
        """
        objects = _objects(batch_gt_instances_3d, self.bbox_coder.code_size)
        tasks, first = [], 0
        for classes in self.num_classes:
            tasks.append(center_targets(objects, first, classes, self.train_cfg, self.norm_bbox))
            first += classes
        return tasks

    def loss_by_feat(
        self,
        preds_dicts: tuple[list[dict]],
        batch_gt_instances_3d: list[InstanceData],
        *args: Any,
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        """Heatmap and box loss of each task, ``task<i>.loss_heatmap`` and ``task<i>.loss_bbox``."""
        losses = {}
        tasks = self.get_targets(batch_gt_instances_3d)
        for index, (maps, targets) in enumerate(zip(preds_dicts, tasks, strict=True)):
            losses[f'task{index}.loss_heatmap'] = self._heatmap_loss(maps[0]['heatmap'], targets)
            losses[f'task{index}.loss_bbox'] = self._box_loss(maps[0], targets)
        return losses

    def _heatmap_loss(self, logits: Tensor, targets: CenterTargets) -> Tensor:
        centers = targets.heatmap.eq(1).float()
        if self.normalizer == 'weight':
            centers = centers * targets.heatmap_weights.detach()
        return self.loss_cls(
            logits.sigmoid().clamp(PROBABLE, 1 - PROBABLE),
            targets.heatmap,
            weight=targets.heatmap_weights,
            avg_factor=max(centers.sum().item(), 1),
        )

    def _box_loss(self, maps: dict[str, Tensor], targets: CenterTargets) -> Tensor:
        names = ('reg', 'height', 'dim', 'rot', 'vel')[: 5 if self.with_velocity else 4]
        every = torch.cat([maps[name] for name in names], 1).permute(0, 2, 3, 1).flatten(1, 2)
        found = self._gather_feat(every, targets.cells)
        known = targets.boxes.isfinite()
        weights = (targets.weights[..., None] * known).to(found)
        total = (targets.weights.detach() if self.normalizer == 'weight' else targets.found).sum()
        return self.loss_bbox(
            found,
            targets.boxes.masked_fill(~known, 0),
            weights * weights.new_tensor(self.train_cfg['code_weights']),
            avg_factor=total.float() + 1e-4,
        )

    def predict_by_feat(
        self, preds_dicts: tuple[list[dict]], batch_input_metas: list[dict], *args: Any, **kw: Any
    ) -> list[InstanceData]:
        """The host's predictions with ``peak_scores_3d`` (N,)."""
        results = super().predict_by_feat(preds_dicts, batch_input_metas, *args, **kw)
        heatmaps = torch.cat([maps[0]['heatmap'].sigmoid() for maps in preds_dicts], 1)
        coder = self.bbox_coder
        low = heatmaps.new_tensor(coder.pc_range[:2])
        cell = heatmaps.new_tensor(coder.voxel_size[:2]) * coder.out_size_factor
        for scores, found in zip(heatmaps, results, strict=True):
            boxes, labels = found.bboxes_3d.tensor, found.labels_3d
            found.peak_scores_3d = heatmap_peaks(scores, boxes, labels, low, cell)
        return results


def _objects(instances: list[InstanceData], numbers: int) -> Objects:
    """The boxes of all scenes, z of their centres, velocities behind."""
    boxes, labels, weights = [], [], []
    for each in instances:
        given = each.bboxes_3d
        if given.tensor.shape[1] < numbers:
            raise UserError(
                f'boxes have {given.tensor.shape[1]} numbers, but the head learns {numbers}: load '
                'velocities, or set bbox_coder.code_size=7 and leave vel out of common_heads'
            )
        device = each.labels_3d.device
        whole = torch.cat([given.gravity_center, given.tensor[:, 3:numbers]], 1).to(device)
        boxes.append(whole)
        labels.append(each.labels_3d)
        own = each.get('weights', None)
        weights.append(whole.new_ones(len(whole)) if own is None else own.to(whole))
    counts = torch.tensor([len(each) for each in labels])
    scene = torch.repeat_interleave(torch.arange(len(labels)), counts).to(labels[0].device)
    return Objects(torch.cat(boxes), torch.cat(labels), torch.cat(weights), scene, len(labels))
