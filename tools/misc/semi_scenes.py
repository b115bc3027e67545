"""A semi-supervised 3D model with frames of its training set, one step of it taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, init_default_scope
from mmengine.runner import load_checkpoint

from mmdistill.core.compat import allow_mmengine_globals
from mmdistill.core.errors import UserError
from mmdistill.det3d.bank_feed import add_labeled, add_mined
from mmdistill.det3d.bev_plot import Layer
from mmdistill.det3d.box_batch import BoxBatch
from mmdistill.det3d.semi_detector import SceneBatch, SemiDet3D
from mmdistill.registry import MODELS


@dataclass
class Step:
    """What one training step makes of its frames; boxes in the coordinates of their view.

    Attributes:
        frames: frame ids.
        labeled: per frame.
        raw: per frame (P, 3 + F) points as read.
        truth: per frame (M, 7) annotated boxes, of unlabelled frames the hidden ones.
        levels: per frame, boxes of the levels ``high``, ``ambiguous`` and ``low``.
        teacher: per unlabelled frame and teacher's view: points and boxes found.
        student: per frame: points, boxes, and points after the shuffle (None without).
    """

    frames: list[int]
    labeled: list[bool]
    raw: list[np.ndarray]
    truth: list[np.ndarray]
    levels: list[dict[str, np.ndarray]]
    teacher: dict[int, list[tuple[np.ndarray, np.ndarray]]]
    student: list[tuple[np.ndarray, np.ndarray, np.ndarray | None]]

    def layers(self, row: int, names: Sequence[str]) -> list[Layer]:
        """Boxes of some levels of a frame, the ground truth among them by its name."""
        known = {'ground truth': self.truth[row], **self.levels[row]}
        return [Layer(name, known[name]) for name in names if name in known]


def build(config: Path, checkpoint: Path | None, options: dict | None = None) -> tuple[Any, Any]:
    """Model and training dataset of a config; every unlabelled scene is shuffled, to be seen.

    Args:
        config: of a semi-supervised 3D detector.
        checkpoint: weights of a run, or of the plain detector; None leaves them as initialised.
        options: overrides by dotted key.

    Raises:
        UserError: the model is of another kind.
    """
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(options or {})
    init_default_scope(cfg.get('default_scope', 'mmdet3d'))
    allow_mmengine_globals()
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    if not isinstance(model, SemiDet3D):
        raise UserError(f'{config}: {type(model).__name__} is no semi-supervised 3D detector')
    model.shuffle_prob = 1.0
    if checkpoint is not None:
        load_checkpoint(model, str(checkpoint), map_location='cpu', logger='silent')
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    if model.bank is not None:
        add_labeled(model.bank, dataset)
        if hasattr(model, 'store'):
            add_mined(model.bank, dataset, model.store)
    return model.train(), dataset


def choose(dataset: Any, wanted: Sequence[int], count: int) -> list[int]:
    """Rows of the wanted frames, or of ``count`` unlabelled frames spread over the data set.

    Raises:
        UserError: a wanted frame is not in the data set.
    """
    rows = {frame: row for row, frame in enumerate(dataset.frame_ids)}
    for frame in wanted:
        if frame not in rows:
            raise UserError(f'frame {frame:06d} is not among the {len(rows)} training frames')
    if wanted:
        return [rows[frame] for frame in wanted]
    free = [row for frame, row in rows.items() if frame not in dataset.labeled_ids]
    count = min(count, len(free))
    return [free[index * len(free) // count] for index in range(count)]


@torch.no_grad()
def take_step(model: SemiDet3D, dataset: Any, rows: Sequence[int], iteration: int = 0) -> Step:
    """The views and labels of one step, by the code that training runs.

    Args:
        model: of :func:`build`.
        dataset: its frames.
        rows: of the frames, one batch.
        iteration: number of the step; draws differ between iterations.
    """
    scenes = read(model, dataset, rows, iteration)
    seen: list[tuple[Any, BoxBatch]] = []
    predict = model.teacher_predict

    def remember(points: Any) -> Any:
        found = predict(points)
        seen.append((points, found[0]))
        return found

    model.teacher_predict = remember
    try:
        boxes, low = model.pseudo_labels(scenes)
    finally:
        del model.teacher_predict
    student, samples, sigma = model.student_batch(scenes, boxes, low)
    found = {name: _arrays(each) for name, each in by_level(model, scenes, boxes, low).items()}
    levels = [{name: found[name][row] for name in found} for row in range(len(rows))]
    unlabeled = scenes.unlabeled_rows().tolist()
    teacher: dict[int, list] = {row: [] for row in unlabeled}
    for points, found in seen:
        for row, cloud, array in zip(unlabeled, points.lists(), _arrays(found), strict=True):
            teacher[row].append((cloud.numpy(), array))
    shuffled: list = [None] * len(rows)
    if sigma is not None:
        shuffled = _voxel_points(student['voxels'], len(rows))
    return Step(
        frames=scenes.frames,
        labeled=scenes.labeled,
        raw=[cloud.numpy() for cloud in scenes.points.lists()],
        truth=[_truth(sample) for sample in scenes.samples],
        levels=levels,
        teacher=teacher,
        student=[
            (cloud.numpy(), sample.gt_instances_3d.bboxes_3d.tensor.numpy(), after)
            for cloud, sample, after in zip(student['points'], samples, shuffled, strict=True)
        ],
    )


def read(model: SemiDet3D, dataset: Any, rows: Sequence[int], iteration: int) -> SceneBatch:
    """Some frames as one batch, as the loss gets it at an iteration."""
    model.cur_iter = iteration
    data = model.data_preprocessor(pseudo_collate([dataset[row] for row in rows]), True)
    return model.read_batch(data['inputs'], data['data_samples'])


def by_level(
    model: SemiDet3D, scenes: SceneBatch, boxes: BoxBatch, low: BoxBatch | None
) -> dict[str, BoxBatch]:
    """What ``model.pseudo_labels`` made of a batch, by level.

    A model without a store has the level ``high`` alone, one that deletes no points no ``low``.
    """
    if not hasattr(model, 'kept_boxes'):
        return {'high': boxes}
    # the ambiguous ones follow the kept ones
    hard = torch.arange(boxes.boxes.shape[1]) < model.kept_boxes(scenes).boxes.shape[1]
    found = {'high': boxes.keep(hard), 'ambiguous': boxes.keep(~hard)}
    return found if low is None else {**found, 'low': low}


def _arrays(boxes: BoxBatch) -> list[np.ndarray]:
    """(n, 7) arrays of the valid boxes of each scene."""
    return [each[0][:, :7].numpy() for each in boxes.lists()]


def _truth(sample: Any) -> np.ndarray:
    """Annotated boxes of a frame, hidden ones of an unlabelled frame; (0, 7) when unknown."""
    if sample.metainfo.get('labeled', True):
        return sample.gt_instances_3d.bboxes_3d.tensor[:, :7].numpy()
    hidden = hidden_truth(sample)
    return np.zeros((0, 7)) if hidden is None else hidden


def hidden_truth(sample: Any) -> np.ndarray | None:
    """(M, 7) boxes that training does not read; None when unknown."""
    hidden = sample.metainfo.get('hidden')
    return None if hidden is None else np.asarray(hidden[0])[:, :7]


def _voxel_points(voxels: dict, batch: int) -> list[np.ndarray]:
    """Points that lie in the voxels of each scene."""
    filled = torch.arange(voxels['voxels'].shape[1])[None] < voxels['num_points'][:, None]
    scene = voxels['coors'][:, :1].expand_as(filled)[filled]
    points = voxels['voxels'][filled]
    return [points[scene == index].numpy() for index in range(batch)]
