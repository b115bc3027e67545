"""Object bank: cropped objects in memory, pasted into training scenes (GT sampling).

The bank holds the objects of labelled frames and, for HSSDA, the mined ones, and nothing
else: it is filled from the split, never from an annotation file of all frames. It replaces
the ``gt_database`` folder of thousands of small files and never touches the data folder.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from mmdistill.core.errors import UserError
from mmdistill.det3d.box_batch import BoxBatch, PointBatch, fit_boxes
from mmdistill.det3d.boxes import bev_collides, points_in_batch_boxes, points_in_boxes


class ObjectBank:
    """Objects by class, their points stored relative to the box centre.

    Args:
        sample_groups: objects to paste per scene and class name, for instance
            ``dict(Car=15, Pedestrian=10, Cyclist=10)``.
        class_names: class names in label order.
        min_points: objects with fewer points are not stored; a number or one per class name.
        limit_whole_scene: paste only as many objects as the scene lacks to reach the number
            of ``sample_groups`` (mmdet3d); False pastes the full number (HSSDA).
        box_dim: numbers of a stored box, 7 or 9 (with the velocity).

    Raises:
        UserError: an unknown class name or a negative number of objects.
    """

    def __init__(
        self,
        sample_groups: Mapping[str, int],
        class_names: list[str],
        min_points: int | Mapping[str, int] = 5,
        limit_whole_scene: bool = False,
        box_dim: int = 7,
    ) -> None:
        unknown = set(sample_groups) - set(class_names)
        if unknown:
            raise UserError(
                f'sample_groups names unknown classes {sorted(unknown)}; known: {class_names}'
            )
        negative = {name: wanted for name, wanted in sample_groups.items() if wanted < 0}
        if negative:
            raise UserError(f'sample_groups must not be negative, got {negative}')
        self.class_names = list(class_names)
        self.groups = torch.tensor([sample_groups.get(name, 0) for name in class_names])
        if not isinstance(min_points, Mapping):
            min_points = dict.fromkeys(class_names, min_points)
        self.min_points = torch.tensor([min_points.get(name, 1) for name in class_names])
        self.limit_whole_scene = limit_whole_scene
        self.box_dim = box_dim
        self.clear()

    def clear(self) -> None:
        """Empties the bank."""
        self.boxes = torch.zeros(0, self.box_dim)
        self.labels = torch.zeros(0, dtype=torch.long)
        self.frames = torch.zeros(0, dtype=torch.long)
        self.mined = torch.zeros(0, dtype=torch.bool)
        self.counts = torch.zeros(0, dtype=torch.long)
        self.points: Tensor | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def add_frame(
        self, frame: int, points: Tensor, boxes: Tensor, labels: Tensor, mined: bool = False
    ) -> int:
        """Crops the objects of one frame.

        Args:
            frame: frame id, kept for leak checks.
            points: (P, 3 + F) points of the frame.
            boxes: (N, box_dim) boxes; further numbers are cut off.
            labels: (N,) class indices; -1, a class that is not trained, is not stored.
            mined: the boxes are pseudo labels.

        Returns:
            Number of objects stored (those with enough points).
        """
        boxes = fit_boxes(boxes, self.box_dim, f'object bank, frame {frame}')
        points, boxes, labels = points.cpu(), boxes.cpu().float(), labels.cpu().long()
        inside = points_in_boxes(points[:, :3], boxes)
        enough = inside.sum(0) >= self.min_points[labels]
        enough &= (self.groups[labels] > 0) & (labels >= 0)
        chosen = enough.nonzero().squeeze(1)
        owner, index = inside.T[chosen].nonzero(as_tuple=True)
        crops = points[index]
        crops[:, :3] -= boxes[chosen][owner][:, :3]
        self.points = crops if self.points is None else torch.cat([self.points, crops])
        self.counts = torch.cat([self.counts, inside.sum(0)[chosen]])
        self.boxes = torch.cat([self.boxes, boxes[chosen]])
        self.labels = torch.cat([self.labels, labels[chosen]])
        self.frames = torch.cat([self.frames, torch.full_like(chosen, frame)])
        self.mined = torch.cat([self.mined, torch.full_like(chosen, mined, dtype=torch.bool)])
        return len(chosen)

    def drop_mined(self) -> None:
        """Forgets the mined objects and keeps the labelled ones."""
        keep = ~self.mined
        if self.points is not None:
            self.points = self.points[torch.repeat_interleave(keep, self.counts)]
        for name in ('boxes', 'labels', 'frames', 'counts', 'mined'):
            setattr(self, name, getattr(self, name)[keep])

    def draw(self, generators: list[torch.Generator]) -> Tensor:
        """(B, K) candidate objects per scene without repetition, -1 where a class has too few."""
        columns = []
        for label, wanted in enumerate(self.groups.tolist()):
            members = (self.labels == label).nonzero().squeeze(1)
            count = min(wanted, len(members))
            if count:
                keys = torch.stack([torch.rand(len(members), generator=g) for g in generators])
                columns.append(members[keys.topk(count, 1).indices])
        if not columns:
            return torch.full((len(generators), 0), -1)
        return torch.cat(columns, 1)

    def paste(
        self,
        scene: PointBatch,
        boxes: BoxBatch,
        generators: list[torch.Generator],
        planes: Tensor | None = None,
    ) -> tuple[PointBatch, BoxBatch]:
        """Pastes drawn objects where they collide with nothing.

        An object is pasted at its own place when its footprint meets neither a box of the
        scene nor an object pasted before it; scene points inside it are removed.

        Args:
            scene: points.
            boxes: boxes of the scenes.
            generators: one random generator per scene.
            planes: (B, 4) ground planes a x + b y + c z + d = 0; objects are set on them,
                or stay at their own height where a plane is NaN.

        Returns:
            Points and boxes with the pasted ones behind; pasted boxes have weight 1.

        Raises:
            UserError: the scene's boxes have another number of numbers.
        """
        if boxes.boxes.shape[-1] != self.box_dim:
            raise UserError(
                f'object bank: boxes of {self.box_dim} numbers, but the scene has boxes of '
                f'{boxes.boxes.shape[-1]}: set box_dim={boxes.boxes.shape[-1]} of the bank'
            )
        drawn = self.draw(generators)
        if drawn.shape[1] == 0:
            return scene, boxes
        device = boxes.boxes.device
        candidates = self.boxes[drawn].to(device)
        labels = self.labels[drawn].to(device)
        allowed = torch.ones_like(labels, dtype=torch.bool)
        if self.limit_whole_scene:
            allowed = self._missing(boxes, labels)
        if planes is not None:
            candidates = candidates.clone()
            ground = _ground_height(planes.to(candidates), candidates)
            candidates[..., 2] = torch.where(ground.isfinite(), ground, candidates[..., 2])
        taken = bev_collides(candidates, boxes.boxes) & boxes.valid[:, None]
        free = allowed & ~taken.any(-1)
        kept = first_come(free, bev_collides(candidates, candidates))
        pasted = BoxBatch(candidates, labels, torch.ones_like(candidates[..., 0]), kept)
        pasted = pasted.keep(kept)
        covered = points_in_batch_boxes(scene.points[:, :3], scene.sample, candidates, kept)
        crops = self._crops(drawn, kept.cpu(), candidates.cpu()).to_device(device)
        return scene.keep(~covered.any(1)) + crops, boxes + pasted

    def _missing(self, boxes: BoxBatch, labels: Tensor) -> Tensor:
        """(B, K) True while the class of the candidate has fewer boxes than its group."""
        classes = torch.arange(len(self.groups), device=labels.device)
        present = ((boxes.labels[..., None] == classes) & boxes.valid[..., None]).sum(1)
        room = (self.groups.to(labels.device)[None] - present).clamp(min=0)
        one_hot = (labels[..., None] == classes).long()
        rank = (one_hot.cumsum(1) * one_hot).sum(-1)
        return rank <= room.gather(1, labels)

    def _crops(self, drawn: Tensor, kept: Tensor, boxes: Tensor) -> 'PointBatch':
        """Points of the kept objects, moved into their boxes."""
        scene, column = kept.nonzero(as_tuple=True)
        objects = drawn[scene, column]
        counts = self.counts[objects]
        starts = (self.counts.cumsum(0) - self.counts)[objects]
        owner = torch.repeat_interleave(torch.arange(len(objects)), counts)
        within = torch.arange(len(owner)) - (counts.cumsum(0) - counts)[owner]
        crops = self.points[starts[owner] + within].clone()
        crops[:, :3] += boxes[scene, column][owner][:, :3]
        return PointBatch(crops, scene[owner], len(drawn))


def first_come(free: Tensor, conflicts: Tensor) -> Tensor:
    """Keeps, in order, what conflicts with nothing kept before.

    Args:
        free: (B, K) bool, candidates at all.
        conflicts: (B, K, K) bool, symmetric.

    Returns:
        (B, K) bool.
    """
    kept = torch.zeros_like(free)
    for column in range(free.shape[1]):
        kept[:, column] = free[:, column] & ~(conflicts[:, column] & kept).any(1)
    return kept


def _ground_height(planes: Tensor, boxes: Tensor) -> Tensor:
    """(B, K) height of the plane under the box centres."""
    a, b, c, d = planes[:, None].unbind(-1)
    return -(a * boxes[..., 0] + b * boxes[..., 1] + d) / c
