"""Semi-supervised 3D detection on mmdet3d: the part that every method shares.

One training step: the teacher looks at raw unlabelled scenes, the method turns its answers
into pseudo labels (and boxes whose points are to be removed), the student sees one joint
batch of labelled and unlabelled scenes in a strongly augmented view. All views are made on
the device from raw points, so labels travel by algebra, and every random number is a pure
function of (seed, iteration, frame): the same frame in the same iteration gets the same view
on any number of ranks and after any restart.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from torch import Tensor

from mmdistill.core.errors import UserError, did_you_mean, options_of
from mmdistill.core.rng import key_generator
from mmdistill.core.semi_model import SemiModel
from mmdistill.det3d.box_batch import BoxBatch, PointBatch, fit_boxes
from mmdistill.det3d.boxes import points_in_batch_boxes
from mmdistill.det3d.dense_unshuffle import check_dense_levels
from mmdistill.det3d.detectors import (
    EXTRA_SCORES,
    as_sample,
    box_numbers,
    changed_test_cfg,
    dense_head,
    predicted_boxes,
    soft_detector,
)
from mmdistill.det3d.object_bank import ObjectBank
from mmdistill.det3d.shuffle_aug import PatchGrid, unshuffled_at
from mmdistill.det3d.sparse_unshuffle import (
    check_unshuffle,
    check_whole_voxels,
    default_unshuffle,
)
from mmdistill.det3d.views import ViewRange


@dataclass(frozen=True)
class SceneBatch:
    """A mixed batch of raw scenes.

    Attributes:
        points: points of all scenes.
        boxes: boxes of labelled scenes; unlabelled scenes have none.
        labeled: per scene, whether it is labelled.
        frames: per scene, its frame id.
        planes: (B, 4) ground planes, NaN where a scene has none; None when they are not used.
        samples: the data samples the batch came with.
    """

    points: PointBatch
    boxes: BoxBatch
    labeled: list[bool]
    frames: list[int]
    planes: Tensor | None
    samples: list[Det3DDataSample]

    def unlabeled_rows(self) -> Tensor:
        """Indices of the unlabelled scenes."""
        rows = [row for row, labeled in enumerate(self.labeled) if not labeled]
        return torch.tensor(rows, dtype=torch.long, device=self.points.points.device)


class SemiDet3D(SemiModel):
    """Teacher and student detectors, views, point removal, object pasting, patch shuffle.

    Subclasses implement :meth:`pseudo_labels`. Both detectors are built from copies of
    ``detector``; the student's dense head becomes its soft-weighted kind, whose parameters
    have the same names.

    Args:
        detector: config of an mmdet3d detector with hard voxelisation and a head of which there
            is a soft-weighted kind: ``Anchor3DHead`` (PointPillars, SECOND) or ``CenterHead``
            (CenterPoint), or a PV-RCNN. Boxes have as many numbers as the head's
            ``bbox_coder.code_size``.
        class_names: class names in label order.
        student_view: range of the student's similarity, see :class:`ViewRange`.
        object_bank: arguments of :class:`ObjectBank` without ``class_names``; None pastes
            nothing. ``use_ground_plane`` (default False) sets objects on the frame's plane.
        shuffle: ``grid`` (patches along x and y, default 2 x 2), ``unshuffle_at`` (submodule,
            default :func:`default_unshuffle`), ``prob`` (default 1), ``labeled`` (default False:
            labelled scenes stay as they are, the paper; True shuffles them as well, ours); None
            does not shuffle.
        teacher_test_cfg: entries of the head's ``test_cfg`` (of the RoI head's, if there is one)
            for pseudo labels, for instance a lower ``score_thr``.
        head_cfg: further arguments of the student's soft-weighted head.
        seed: first key of all random draws.
        semi_test_cfg: ``predict_on='student'`` or ``'teacher'``.
        init_cfg: as in mmengine.

    Raises:
        UserError: an unknown key or a value out of range; the message names it.
    """

    def __init__(
        self,
        detector: dict,
        class_names: Sequence[str],
        student_view: dict,
        object_bank: dict | None = None,
        shuffle: dict | None = None,
        teacher_test_cfg: dict | None = None,
        head_cfg: dict | None = None,
        seed: int = 0,
        semi_test_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        detector = soft_detector(detector, head_cfg or {})
        host = copy.deepcopy(detector['data_preprocessor'])
        super().__init__(
            detector,
            semi_test_cfg=semi_test_cfg or dict(predict_on='student'),
            data_preprocessor=dict(type='mmdistill.SemiDet3DPreprocessor', host=host),
            init_cfg=init_cfg,
        )
        self.class_names = list(class_names)
        self.student_view = ViewRange(**student_view)
        self.teacher_test_cfg = dict(teacher_test_cfg or {})
        known = dense_head(self.teacher).test_cfg
        for key in self.teacher_test_cfg:
            if key not in known:
                raise UserError(
                    f'teacher_test_cfg: unknown key {key!r}{did_you_mean(key, known)}; '
                    f'known: {sorted(known)}'
                )
        self.seed = seed
        layer = self.student.data_preprocessor.voxel_layer
        self.point_cloud_range = [float(each) for each in layer.point_cloud_range]
        self.grid_cells = [int(each) for each in layer.grid_shape[:2]]
        bank = dict(object_bank or {})
        self.use_ground_plane = bank.pop('use_ground_plane', False)
        self.box_dim = box_numbers(dense_head(self.student))
        options = dict(class_names=self.class_names, box_dim=self.box_dim)
        self.bank = ObjectBank(**options, **bank) if bank else None
        self.patches = None
        if shuffle is not None:
            self.prepare_shuffle(shuffle, layer.voxel_size)

    def prepare_shuffle(self, shuffle: Mapping, voxel_size: Sequence[float]) -> None:
        """Reads ``shuffle`` and asks whether this detector can be shuffled like that.

        Before the first step, which may come after a long mining round.
        """
        known = dict(grid=(2, 2), unshuffle_at=None, prob=1.0, labeled=False)
        options = options_of('shuffle', shuffle, known)
        self.unshuffle_at = options['unshuffle_at'] or default_unshuffle(self.student)
        self.shuffle_prob, self.shuffle_labeled = options['prob'], options['labeled']
        if not 0 <= self.shuffle_prob <= 1:
            raise UserError(f'shuffle.prob must lie in [0, 1], got {self.shuffle_prob}')
        if not isinstance(self.shuffle_labeled, bool):
            raise UserError(f'shuffle.labeled must be True or False, got {self.shuffle_labeled!r}')
        check_whole_voxels(self.point_cloud_range, voxel_size)
        self.patches = PatchGrid(self.point_cloud_range, options['grid'])
        where = self.student, self.unshuffle_at, self.patches, self.grid_cells
        check_unshuffle(*where)
        check_dense_levels(*where)

    # ---------------------------------------------------------------- one training step

    def loss(self, inputs: dict, data_samples: list[Det3DDataSample]) -> dict[str, Tensor]:
        """Losses of one joint forward of the student on labelled and unlabelled scenes."""
        scenes = self.read_batch(inputs, data_samples)
        boxes, suppressed = self.pseudo_labels(scenes)
        batch, samples, sigma = self.student_batch(scenes, boxes, suppressed)
        context = nullcontext()
        if sigma is not None:
            context = unshuffled_at(self.student, self.unshuffle_at, self.patches, sigma)
        with context:
            return self.student.loss(batch, samples)

    def pseudo_labels(self, scenes: SceneBatch) -> tuple[BoxBatch, BoxBatch | None]:
        """What the student learns from.

        Returns:
            Boxes of all scenes (ground truth, hard and soft pseudo labels), and the boxes
            whose points are removed, or None.
        """
        raise NotImplementedError

    def read_batch(self, inputs: dict, data_samples: list[Det3DDataSample]) -> SceneBatch:
        """Reads points, boxes and flags of a batch; ground truth of unlabelled scenes is unread."""
        points = list(inputs['points'])
        boxes, labels, labeled = [], [], []
        for cloud, sample in zip(points, data_samples, strict=True):
            known = bool(sample.metainfo.get('labeled', True))
            instances = sample.gt_instances_3d if known else None
            labeled.append(known)
            own = (
                instances.bboxes_3d.tensor.to(cloud) if known else cloud.new_zeros(0, self.box_dim)
            )
            boxes.append(fit_boxes(own, self.box_dim, f'frame {sample.sample_idx}'))
            labels.append(
                instances.labels_3d.to(cloud.device)
                if known
                else cloud.new_zeros(0, dtype=torch.long)
            )
        planes = [sample.metainfo.get('plane') for sample in data_samples]
        planes = [[math.nan] * 4 if plane is None else list(plane) for plane in planes]
        return SceneBatch(
            points=PointBatch.from_list(points),
            boxes=BoxBatch.from_lists(boxes, labels),
            labeled=labeled,
            frames=[int(sample.metainfo['sample_idx']) for sample in data_samples],
            planes=points[0].new_tensor(planes) if self.use_ground_plane else None,
            samples=list(data_samples),
        )

    def student_batch(
        self, scenes: SceneBatch, boxes: BoxBatch, suppressed: BoxBatch | None
    ) -> tuple[dict, list[Det3DDataSample], Tensor | None]:
        """Removal, pasting, strong view, voxelisation and shuffle, in this order.

        Returns:
            The student's inputs, its data samples and the (B, patches) permutations that its
            features have to be unshuffled with, or None when every patch is in its place.
        """
        points = scenes.points
        if suppressed is not None:
            points = remove_points(points, suppressed)
        generators = self.generators(scenes.frames)
        patch_count = len(self.patches) if self.patches is not None else 0
        draws = torch.stack([torch.rand(4 + patch_count, generator=g) for g in generators])
        if self.bank is not None:
            points, boxes = self.bank.paste(points, boxes, generators, scenes.planes)
        view = self.student_view.draw(draws[:, :3]).to(points.points.device)
        mapped = view.points(points.points, points.sample)
        points = PointBatch(mapped, points.sample, points.batch)
        boxes = boxes.with_boxes(view.boxes(boxes.boxes))
        boxes = boxes.keep(self.centers_in_range(boxes.boxes))
        clouds = self.crop(mix_points(points, generators))
        voxels = self.student.data_preprocessor.voxelize(clouds, None)
        sigma = None
        if self.patches is not None:
            sigma = self.draw_shuffle(draws[:, 3:], scenes.labeled)
            still = torch.equal(sigma, self.patches.identity(len(sigma)))
            sigma = None if still else sigma.to(mapped.device)
        if sigma is not None:
            voxels = self.patches.shuffle_voxels(voxels, sigma, self.grid_cells)
        samples = [
            as_sample(*each, sample.metainfo)
            for each, sample in zip(boxes.lists(), scenes.samples, strict=True)
        ]
        return dict(points=clouds, voxels=voxels), samples, sigma

    def draw_shuffle(self, uniform: Tensor, labeled: list[bool]) -> Tensor:
        """(B, patches) permutations; the identity for labelled scenes (hssda 1.9) by default."""
        sigma = self.patches.draw(uniform[:, 1:])
        still = uniform[:, 0] >= self.shuffle_prob
        if not self.shuffle_labeled:
            still = still | torch.tensor(labeled)
        return torch.where(still[:, None], self.patches.identity(len(sigma)), sigma)

    # ---------------------------------------------------------------- teacher

    @torch.no_grad()
    def teacher_predict(self, points: PointBatch) -> tuple[BoxBatch, dict[str, Any]]:
        """Teacher's boxes of some scenes, in the coordinates of the given points.

        Returns:
            Boxes whose ``weights`` are the classification scores, and what else the detector
            gives by name: further (B, N) scores (``EXTRA_SCORES``), and ``before_nms``, a BoxBatch
            of the boxes before the last suppression.
        """
        clouds = self.crop(points)
        voxels = self.teacher.data_preprocessor.voxelize(clouds, None)
        samples = [Det3DDataSample(metainfo=dict(box_type_3d=LiDARInstance3DBoxes)) for _ in clouds]
        with changed_test_cfg(self.teacher, self.teacher_test_cfg):
            results = self.teacher.predict(dict(points=clouds, voxels=voxels), samples)
        found = [result.pred_instances_3d for result in results]
        pad = torch.nn.utils.rnn.pad_sequence
        extra = {
            name: pad([each[name] for each in found], batch_first=True)
            for name in EXTRA_SCORES
            if all(name in each for each in found)
        }
        if all('before_nms' in each.metainfo for each in found):
            before = [each.metainfo['before_nms'] for each in found]
            extra['before_nms'] = predicted_boxes(before, points.points)
        return predicted_boxes(found, points.points), extra

    def generators(self, frames: list[int], purpose: int = 0) -> list[torch.Generator]:
        """One random generator per frame, keyed by (seed, iteration, frame, purpose)."""
        return [key_generator(self.seed, self.cur_iter, frame, purpose) for frame in frames]

    # ---------------------------------------------------------------- ranges

    def crop(self, points: PointBatch) -> list[Tensor]:
        """Per-scene points inside the range; a scene left empty keeps one point at its edge.

        mmdet3d counts scenes by their voxels, so a scene without any would vanish (hssda: B12).
        """
        low = points.points.new_tensor(self.point_cloud_range[:3])
        high = points.points.new_tensor(self.point_cloud_range[3:])
        xyz = points.points[:, :3]
        clouds = points.keep(((xyz >= low) & (xyz < high)).all(1)).lists()
        lone = torch.cat([low + 1e-3, low.new_zeros(points.points.shape[1] - 3)])
        return [cloud if len(cloud) else lone[None] for cloud in clouds]

    def centers_in_range(self, boxes: Tensor) -> Tensor:
        """(B, N) True for boxes (B, N, 7 + V) whose centre lies in the range seen from above."""
        low = boxes.new_tensor(self.point_cloud_range[:2])
        high = boxes.new_tensor(self.point_cloud_range[3:5])
        return ((boxes[..., :2] >= low) & (boxes[..., :2] < high)).all(-1)


def remove_points(points: PointBatch, boxes: BoxBatch) -> PointBatch:
    """Deletes the points inside any valid box of their scene (low level, hssda 1.7)."""
    if boxes.boxes.shape[1] == 0:
        return points
    inside = points_in_batch_boxes(points.points[:, :3], points.sample, boxes.boxes, boxes.valid)
    return points.keep(~inside.any(1))


def mix_points(points: PointBatch, generators: list[torch.Generator]) -> PointBatch:
    """Shuffles the order of the points within each scene."""
    counts = torch.bincount(points.sample, minlength=points.batch).tolist()
    orders, start = [], 0
    for count, generator in zip(counts, generators, strict=True):
        orders.append(torch.randperm(count, generator=generator) + start)
        start += count
    order = torch.cat(orders).to(points.points.device)
    return PointBatch(points.points[order], points.sample, points.batch)
